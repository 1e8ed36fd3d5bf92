use super::*;

const CLUSTER: ClusterId = ClusterId([0xAB; 16]);

#[test]
fn a_certificate_names_its_node() {
    let authority = Authority::found(CLUSTER).unwrap();
    let request = NodeKey::generate().unwrap().request().unwrap();
    let key = PublicKey::of_request(&request).unwrap();
    let certificate = authority.issue(17, &key, 1_800_000_000).unwrap();
    assert_eq!(node_of(&certificate), Ok((CLUSTER, 17)));
    assert_eq!(node_of(authority.certificate()), Err(AuthorityError::Nobody));
    assert_eq!(node_of(b"no certificate"), Err(AuthorityError::Nobody));
    assert!(authority.issue(17, &key, u64::MAX).is_err());
}

#[test]
fn the_authority_reads_back_with_its_key() {
    let authority = Authority::found(CLUSTER).unwrap();
    let certificate = authority.certificate().to_vec();
    let again = Authority::load(CLUSTER, certificate, authority.key().clone()).unwrap();
    assert_eq!(again.key(), authority.key());
    assert!(Authority::load(CLUSTER, Vec::new(), Secret(vec![1, 2, 3])).is_err());
    let node = NodeKey::generate().unwrap();
    let again = NodeKey::from_der(&node.to_der()).unwrap();
    let key = |node: &NodeKey| PublicKey::of_request(&node.request().unwrap()).unwrap();
    assert_eq!(key(&node), key(&again), "the same key asks again");
}

#[test]
fn a_request_that_its_key_has_not_signed_is_refused() {
    let good = NodeKey::generate().unwrap().request().unwrap();
    for at in 0..good.len() {
        let mut request = good.clone();
        request[at] ^= 1;
        assert!(PublicKey::of_request(&request).is_err(), "byte {at}");
    }
    assert!(PublicKey::of_request(&good[..good.len() - 1]).is_err());
    let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let other = CertificateParams::default().serialize_request(&other).unwrap();
    assert_eq!(PublicKey::of_request(other.der()), Err(AuthorityError::Request));
}

/// A URI that reads as a node in a second way, or beside another, names nobody.
#[test]
fn a_name_is_written_in_one_way() {
    let key = KeyPair::generate().unwrap();
    let named = |uris: &[&str]| {
        let mut params = CertificateParams::default();
        for uri in uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into().unwrap()));
        }
        node_of(params.self_signed(&key).unwrap().der())
    };
    let good = uri(CLUSTER, 5);
    assert_eq!(named(&[&good]), Ok((CLUSTER, 5)));
    let wrong = [
        good.replace("/5", "/05"),
        good.replace("/5", "/+5"),
        good.replace("/5", "/0"),
        good.replace("abab", "ABAB"),
        good.replace("ledgermq:", "http:"),
        good.replace("/node/5", "/node/5/6"),
        good.replace("/node/5", ""),
    ];
    for uri in &wrong {
        assert_eq!(named(&[uri]), Err(AuthorityError::Nobody), "{uri}");
    }
    assert_eq!(named(&[&good, &good]), Err(AuthorityError::Nobody));
    assert_eq!(named(&[]), Err(AuthorityError::Nobody));
}
