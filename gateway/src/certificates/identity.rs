//! Who a client is, according to its certificate.

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use x509_cert::Certificate;
use x509_cert::attr::{AttributeTypeAndValue, AttributeValue};
use x509_cert::der::asn1::{
    BmpString, Ia5StringRef, ObjectIdentifier, PrintableStringRef, TeletexStringRef, Utf8StringRef,
};
use x509_cert::der::{Decode as _, Tag, Tagged as _};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

#[cfg(test)]
mod tests;

/// Attribute type `commonName` of X.520.
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
/// Bytes of an identity, at most.
const IDENTITY_BYTES_MAX: usize = 1024;

/// The part of a client certificate that becomes the user name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdentityFrom {
    /// The common name of the subject; there must be one and only one.
    #[default]
    Cn,
    /// The first DNS name, e-mail address or URI among the subject's alternative names.
    San,
}

/// A certificate whose holder is not let in, since it cannot be said who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IdentityError {
    /// It cannot be taken apart.
    #[error("it cannot be read")]
    Unreadable,
    /// The part that counts is not there.
    #[error("it names nobody (gateway.listener.identity says where to look)")]
    Missing,
    /// Which of several names counts would be a guess.
    #[error("it has more than one common name")]
    Ambiguous,
    /// A name that others could take for another one.
    #[error("its name is empty, too long or holds control characters")]
    Unusable,
}

/// The identity that the client's own certificate states.
pub(crate) fn identity(
    certificate: &CertificateDer<'_>,
    from: IdentityFrom,
) -> Result<Box<str>, IdentityError> {
    let certificate = Certificate::from_der(certificate).map_err(|_| IdentityError::Unreadable)?;
    let name = match from {
        IdentityFrom::Cn => common_name(&certificate)?,
        IdentityFrom::San => alternative_name(&certificate)?,
    };
    let is_usable =
        !name.is_empty() && name.len() <= IDENTITY_BYTES_MAX && !name.chars().any(char::is_control);
    if is_usable { Ok(name.into()) } else { Err(IdentityError::Unusable) }
}

fn common_name(certificate: &Certificate) -> Result<String, IdentityError> {
    let attributes = certificate.tbs_certificate().subject().iter();
    let mut names =
        attributes.filter(|attribute: &&AttributeTypeAndValue| attribute.oid == COMMON_NAME);
    match (names.next(), names.next()) {
        (None, _) => Err(IdentityError::Missing),
        (Some(name), None) => text(&name.value).ok_or(IdentityError::Unreadable),
        (Some(_), Some(_)) => Err(IdentityError::Ambiguous),
    }
}

fn text(value: &AttributeValue) -> Option<String> {
    match value.tag() {
        Tag::Utf8String => value.decode_as::<Utf8StringRef<'_>>().ok().map(|text| text.to_string()),
        Tag::PrintableString => {
            value.decode_as::<PrintableStringRef<'_>>().ok().map(|text| text.to_string())
        }
        Tag::Ia5String => value.decode_as::<Ia5StringRef<'_>>().ok().map(|text| text.to_string()),
        Tag::TeletexString => {
            value.decode_as::<TeletexStringRef<'_>>().ok().map(|text| text.to_string())
        }
        Tag::BmpString => value.decode_as::<BmpString>().ok().map(|text| text.to_string()),
        _ => None,
    }
}

fn alternative_name(certificate: &Certificate) -> Result<String, IdentityError> {
    let names = certificate.tbs_certificate().get_extension::<SubjectAltName>();
    let names = names.map_err(|_| IdentityError::Unreadable)?;
    let (_, names) = names.ok_or(IdentityError::Missing)?;
    let name = names.0.iter().find_map(|name| match name {
        GeneralName::DnsName(name)
        | GeneralName::Rfc822Name(name)
        | GeneralName::UniformResourceIdentifier(name) => Some(name.to_string()),
        _ => None,
    });
    name.ok_or(IdentityError::Missing)
}
