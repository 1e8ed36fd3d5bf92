use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, SanType};

use super::*;
use crate::certificates::tests::authority::{Authority, named};

fn of(params: CertificateParams, from: IdentityFrom) -> Result<String, IdentityError> {
    let issued = Authority::new("authority").issue(params);
    identity(issued.certificate.der(), from).map(String::from)
}

fn nameless() -> CertificateParams {
    let mut params = named("");
    params.distinguished_name = DistinguishedName::new();
    params
}

#[test]
fn the_common_name_is_taken_as_it_is_wherever_it_stands_in_the_subject() {
    for name in ["device-1", "*.example.org", "#", "+", "a/b", "Z\u{fc}rich", "CN=admin"] {
        assert_eq!(of(named(name), IdentityFrom::Cn).as_deref(), Ok(name));
    }
    let mut params = nameless();
    params.distinguished_name.push(DnType::OrganizationName, "admin");
    params.distinguished_name.push(DnType::CommonName, "device");
    params.distinguished_name.push(DnType::OrganizationalUnitName, "CN=admin");
    assert_eq!(of(params, IdentityFrom::Cn).as_deref(), Ok("device"));
}

#[test]
fn every_kind_of_string_is_read() {
    for value in [
        DnValue::PrintableString("device 1".try_into().unwrap()),
        DnValue::Ia5String("device 1".try_into().unwrap()),
        DnValue::TeletexString("device 1".try_into().unwrap()),
        DnValue::BmpString("device 1".try_into().unwrap()),
    ] {
        let mut params = named("");
        params.distinguished_name.push(DnType::CommonName, value);
        assert_eq!(of(params, IdentityFrom::Cn).as_deref(), Ok("device 1"));
    }
}

#[test]
fn a_name_that_could_be_taken_for_another_is_nobodys() {
    for name in ["", "admin\0.example.org", "admin\n", "a\u{7f}", "a\u{85}", &"x".repeat(1025)] {
        let error = of(named(name), IdentityFrom::Cn).unwrap_err();
        assert_eq!(error, IdentityError::Unusable, "{name:?}");
    }
    let mut twice = named("first");
    twice.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 3]), "second");
    assert_eq!(of(twice, IdentityFrom::Cn), Err(IdentityError::Ambiguous));
    assert_eq!(of(nameless(), IdentityFrom::Cn), Err(IdentityError::Missing));
    assert_eq!(
        identity(&vec![0x30, 0x80].into(), IdentityFrom::Cn),
        Err(IdentityError::Unreadable)
    );
}

#[test]
fn the_first_alternative_name_that_is_a_text_is_taken() {
    let san = |names: Vec<SanType>| {
        let mut params = named("not this one");
        params.subject_alt_names = names;
        of(params, IdentityFrom::San)
    };
    let address = SanType::IpAddress([10, 0, 0, 1].into());
    let dns = SanType::DnsName("device.example.org".try_into().unwrap());
    let mail = SanType::Rfc822Name("device@example.org".try_into().unwrap());
    let uri = SanType::URI("urn:device:1".try_into().unwrap());
    assert_eq!(san(vec![address.clone(), dns.clone()]).as_deref(), Ok("device.example.org"));
    assert_eq!(san(vec![mail, dns]).as_deref(), Ok("device@example.org"));
    assert_eq!(san(vec![uri]).as_deref(), Ok("urn:device:1"));
    assert_eq!(san(vec![address]), Err(IdentityError::Missing));
    assert_eq!(san(vec![]), Err(IdentityError::Missing));
}
