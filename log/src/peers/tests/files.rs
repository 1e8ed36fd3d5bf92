//! The directory `cluster/`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::cluster::identity::Identity;

const IDENTITY: Identity = Identity { cluster: CLUSTER, node: 1, generation: 1, start_min: 0 };

#[test]
fn what_is_written_is_read_and_keys_are_for_the_owner() {
    let data = tempfile::tempdir().unwrap();
    let dir = ClusterDir::new(data.path());
    assert!(dir.load().unwrap().is_none());
    let founded = dir.found(&IDENTITY, now_s()).unwrap();
    let loaded = dir.load().unwrap().expect("it was founded");
    assert_eq!((loaded.identity, loaded.key), (IDENTITY, founded.key));
    assert_eq!(loaded.credentials, founded.credentials);
    for name in ["ca.key", "node.key"] {
        let path = data.path().join("cluster").join(name);
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    dir.set_identity(&Identity { generation: 2, ..IDENTITY }).unwrap();
    assert_eq!(dir.load().unwrap().unwrap().identity.generation, 2);
}

/// A crash at any place leaves a node that is of no cluster, and what is made then fits together.
#[test]
fn what_was_begun_and_not_finished_is_begun_anew() {
    let names = ["node.key", "ca.pem", "ca.key", "node.pem"];
    for written in 0..=names.len() {
        let data = tempfile::tempdir().unwrap();
        let dir = ClusterDir::new(data.path());
        let first = dir.found(&IDENTITY, now_s()).unwrap();
        let path = |name: &str| data.path().join("cluster").join(name);
        fs::remove_file(path("identity")).unwrap();
        for name in &names[written..] {
            fs::remove_file(path(name)).unwrap();
        }
        fs::write(path("ca.new"), "cut off").unwrap();
        assert!(dir.load().unwrap().is_none());
        let again = dir.found(&IDENTITY, now_s()).unwrap();
        assert_eq!(again.key == first.key, written > 0, "the key stays");
        tls::Tls::new(CLUSTER, &again.credentials).unwrap();
    }
}

#[test]
fn files_that_are_damaged_missing_or_of_another_node_are_named() {
    let others = tempfile::tempdir().unwrap();
    let other = ClusterDir::new(others.path());
    other.found(&Identity { node: 2, ..IDENTITY }, now_s()).unwrap();
    for name in ["identity", "ca.pem", "ca.key", "node.pem", "node.key"] {
        let data = tempfile::tempdir().unwrap();
        let dir = ClusterDir::new(data.path());
        dir.found(&IDENTITY, now_s()).unwrap();
        let path = data.path().join("cluster").join(name);
        fs::write(&path, "nonsense").unwrap();
        let error = dir.load().unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
        fs::remove_file(&path).unwrap();
        if name == "ca.key" {
            assert!(dir.load().unwrap().unwrap().authority.is_none(), "it lets nobody in");
        } else if name != "identity" {
            assert!(dir.load().unwrap_err().to_string().contains("missing"), "{name}");
        }
        fs::copy(others.path().join("cluster").join("node.pem"), &path).unwrap();
        if name == "node.pem" {
            assert!(dir.load().unwrap_err().to_string().contains("for node 2"));
        }
    }
}
