pub(crate) mod authority;

use std::path::PathBuf;

use super::*;
use authority::{Authority, pem};

/// A folder with files of certificates, and a listener that uses them.
struct Files {
    dir: tempfile::TempDir,
    listener: Listener,
}

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Authority::new("server authority").server("localhost");
        let listener = Listener {
            certificate: dir.path().join("c.pem"),
            key: dir.path().join("k.pem"),
            client_ca: dir.path().join("ca.pem"),
            client_crl: dir.path().join("crl.pem"),
            client_certificate: ClientCertificate::Required,
            ..Listener::default()
        };
        let clients = Authority::new("client authority");
        let files = Self { dir, listener };
        files.write("c.pem", &server.certificate_pem());
        files.write("k.pem", &server.key_pem());
        files.write("ca.pem", &pem("CERTIFICATE", clients.certificate.der()));
        files.write("crl.pem", &clients.revocation_list(&[]));
        files
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// What is said once `name` holds `text` (none: once it is away).
    fn error(name: &str, text: Option<&str>) -> String {
        let files = Self::new();
        load(0, &files.listener).expect("good as it is").expect("with TLS");
        match text {
            Some(text) => drop(files.write(name, text)),
            None => fs::remove_file(files.dir.path().join(name)).unwrap(),
        }
        let error = load(0, &files.listener).unwrap_err().to_string();
        error.replace(files.dir.path().to_str().unwrap(), "DIR")
    }
}

#[test]
fn files_that_cannot_be_used_are_named_with_their_key_and_what_is_wrong() {
    let other = Authority::new("another").server("localhost");
    let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
    for (file, text, expected) in [
        ("c.pem", None, "certificate: cannot read DIR/c.pem: "),
        ("c.pem", Some(""), "certificate: there is no certificate in DIR/c.pem"),
        ("c.pem", Some("no PEM at all"), "certificate: there is no certificate in DIR/c.pem"),
        ("c.pem", Some(broken), "certificate: DIR/c.pem cannot be read as PEM: "),
        ("k.pem", None, "key: cannot read DIR/k.pem: "),
        ("k.pem", Some(""), "key: there is no private key in DIR/k.pem"),
        (
            "k.pem",
            Some(&*other.key_pem()),
            "key: it does not belong to the certificate in DIR/c.pem",
        ),
        ("ca.pem", None, "client_ca: cannot read DIR/ca.pem: "),
        ("ca.pem", Some(""), "client_ca: there is no certificate in DIR/ca.pem"),
        ("crl.pem", Some(""), "client_crl: there is no revocation list in DIR/crl.pem"),
    ] {
        let error = Files::error(file, text);
        assert!(error.starts_with(&format!("gateway.listener[0].{expected}")), "{error}");
    }
}

#[test]
fn a_broken_file_leaves_the_certificates_in_force_and_a_good_one_replaces_them() {
    let files = Files::new();
    let held = Certificates::open(3, &files.listener).unwrap().unwrap();
    let first = held.current();
    files.write("k.pem", "nothing");
    let error = held.reload().unwrap_err();
    assert_eq!(error.key, "listener[3].key");
    assert!(Arc::ptr_eq(&held.current(), &first));
    let other = Authority::new("another").server("localhost");
    files.write("c.pem", &other.certificate_pem());
    files.write("k.pem", &other.key_pem());
    held.reload().unwrap();
    assert!(!Arc::ptr_eq(&held.current(), &first));
}

#[test]
fn a_listener_without_certificate_has_no_tls() {
    assert!(Certificates::open(0, &Listener::default()).unwrap().is_none());
}

#[test]
fn nothing_is_resumed_or_sent_early_where_client_certificates_count() {
    let files = Files::new();
    let strict = load(0, &files.listener).unwrap().unwrap();
    assert_eq!((strict.max_early_data_size, strict.send_tls13_tickets), (0, 0));
    assert!(!strict.ticketer.enabled() && !strict.session_storage.can_cache());
    let listener =
        Listener { client_certificate: ClientCertificate::None, ..files.listener.clone() };
    let open = load(0, &listener).unwrap().unwrap();
    assert_eq!(open.max_early_data_size, 0);
    assert!(open.ticketer.enabled());
}
