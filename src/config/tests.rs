use std::fs;

use super::*;

/// The effective configuration of a file with that text, those variables and flags.
fn load_text(
    text: &str,
    environment: &[(&str, &str)],
    flags: &Flags,
) -> Result<Effective, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledgermq.toml");
    fs::write(&path, text).unwrap();
    let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    load(Some(&path), environment, flags)
}

/// The message for a file that is wrong, without the directory of the file.
fn refused(text: &str) -> String {
    let message = load_text(text, &[], &Flags::default()).unwrap_err().to_string();
    let start = message.find("ledgermq.toml").unwrap_or(0);
    message[start..].to_owned()
}

fn origin(effective: &Effective, key: &str) -> String {
    let text = effective.origin(key).to_string();
    text.rsplit('/').next().unwrap().to_owned()
}

#[test]
fn without_anything_the_defaults_are_in_force_and_every_key_is_listed() {
    let effective = load(None, std::iter::empty(), &Flags::default()).unwrap();
    let listed = |key| effective.settings.iter().any(|setting| setting.key == key);
    for key in [
        "node.id",
        "node.data_dir",
        "gateway.listener[0].address",
        "gateway.listener[0].protocol",
        "gateway.limits.retained_bytes",
        "log.durability",
        "cluster.address",
        "cluster.insecure",
        "api.address",
    ] {
        assert!(listed(key), "{key}");
    }
    let is_default = |setting: &Setting| match &setting.origin {
        // A small machine bounds them.
        Origin::Memory { asked, .. } => **asked == Origin::Default,
        origin => *origin == Origin::Default,
    };
    assert!(effective.settings.iter().all(is_default));
    assert!(effective.config.limits.memory_max >= memory::LEAST);
}

#[test]
fn memory_max_bounds_what_it_cannot_hold_and_says_so() {
    let text = "[limits]\nmemory_max = \"512MiB\"\n[gateway.limits]\nretained_bytes = \"1MiB\"\n\
                output_bytes = \"1GiB\"\n";
    let effective = load_text(text, &[], &Flags::default()).unwrap();
    let limits = &effective.config.gateway.limits;
    assert_eq!(limits.retained_bytes.to_string(), "1MiB");
    assert_eq!(limits.output_bytes.to_string(), "64MiB");
    assert_eq!(effective.config.log.ring_bytes.to_string(), "32MiB");
    assert_eq!(origin(&effective, "gateway.limits.retained_bytes"), "ledgermq.toml:4");
    assert_eq!(origin(&effective, "log.ring_bytes"), "default");
    assert_eq!(
        effective.origin("gateway.limits.input_bytes").to_string(),
        "bounded by limits.memory_max (\"1GiB\", default)"
    );
    let value = |key| effective.settings.iter().find(|setting| setting.key == key).unwrap();
    assert_eq!(value("gateway.limits.output_bytes").value, "64MiB".into());
    assert_eq!(value("gateway.limits.sessions").value, 65_536.into());
    let text = "[limits]\nmemory_max = \"100MiB\"\n";
    let error = load_text(text, &[], &Flags::default()).unwrap_err().to_string();
    assert!(error.starts_with("limits.memory_max: must be at least 128MiB"), "{error}");
    assert!(error.ends_with("ledgermq.toml:2)"), "{error}");
}

#[test]
fn flags_override_the_environment_and_that_the_file_and_that_the_defaults() {
    let text = "[node]\nid = 2\ndata_dir = \"file\"\n[gateway.limits]\nconnections = 5\n";
    let environment = [("LEDGERMQ_NODE__DATA_DIR", "env"), ("LEDGERMQ_NODE__ID", "3")];
    let flags = Flags { node_id: NonZeroU64::new(4), ..Flags::default() };
    let effective = load_text(text, &environment, &flags).unwrap();
    let config = &effective.config;
    assert_eq!(config.node.id.get(), 4);
    assert_eq!(config.node.data_dir, PathBuf::from("env"));
    assert_eq!(config.gateway.limits.connections, 5);
    assert_eq!(origin(&effective, "node.id"), "flag --node-id");
    assert_eq!(origin(&effective, "node.data_dir"), "environment LEDGERMQ_NODE__DATA_DIR");
    assert_eq!(origin(&effective, "gateway.limits.connections"), "ledgermq.toml:5");
    assert_eq!(origin(&effective, "gateway.limits.packet_bytes"), "default");
}

#[test]
fn listeners_of_the_flags_come_besides_those_of_the_file() {
    let text = "[[gateway.listener]]\naddress = \"127.0.0.1:1\"\n";
    let flags = Flags { mqtt: vec!["127.0.0.1:2".parse().unwrap()], ..Flags::default() };
    let effective = load_text(text, &[], &flags).unwrap();
    let ports: Vec<u16> =
        effective.config.gateway.listener.iter().map(|listener| listener.address.port()).collect();
    assert_eq!(ports, [1, 2]);
    assert_eq!(origin(&effective, "gateway.listener[0].address"), "ledgermq.toml:2");
    assert_eq!(origin(&effective, "gateway.listener[0].protocol"), "default");
    assert_eq!(origin(&effective, "gateway.listener[1].address"), "flag --mqtt");
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_one() {
    for (text, message) in [
        (
            "[log]\n\ndurabilty = \"fsync\"\n",
            "ledgermq.toml:3: there is no key log.durabilty; did you mean log.durability?",
        ),
        (
            "[gateway]\nconnections = 7\n",
            "ledgermq.toml:2: there is no key gateway.connections; did you mean \
             gateway.limits.connections?",
        ),
        (
            "[[gateway.listener]]\nadress = \"127.0.0.1:1\"\n",
            "ledgermq.toml:2: there is no key gateway.listener.adress; did you mean \
             gateway.listener.address?",
        ),
        (
            "[cluster]\njoin_token = \"lmq1.x\"\n",
            "ledgermq.toml:2: there is no key cluster.join_token; did you mean \
             cluster.join_token_file?",
        ),
    ] {
        assert_eq!(refused(text), message);
    }
}

#[test]
fn an_unknown_variable_with_a_section_is_refused_and_others_are_not_ours() {
    let flags = Flags::default();
    let error = load_text("", &[("LEDGERMQ_LOG__DURABILTY", "fsync")], &flags).unwrap_err();
    assert_eq!(
        error.to_string(),
        "environment LEDGERMQ_LOG__DURABILTY: there is no key log.durabilty; did you mean \
         log.durability?"
    );
    load_text("", &[("LEDGERMQ_OTHER", "x"), ("HOME__X", "y")], &flags).unwrap();
}

#[test]
fn a_wrong_value_is_refused_where_it_stands() {
    let message = refused("[gateway.limits]\npacket_bytes = \"1 parsec\"\n");
    assert!(message.contains("line 2") && message.contains("1 parsec"), "{message}");
    let message = refused("[gateway.limits]\nconnections = -1\n");
    assert!(message.contains("line 2"), "{message}");
    let flags = Flags::default();
    let error = load_text("", &[("LEDGERMQ_LOG__DURABILITY", "maybe")], &flags).unwrap_err();
    assert!(error.to_string().contains("LEDGERMQ_LOG__DURABILITY"), "{error}");
    let error = load_text("", &[("LEDGERMQ_NODE__ID", "one")], &flags).unwrap_err();
    assert!(error.to_string().contains("no whole number"), "{error}");
}

#[test]
fn a_value_out_of_range_is_refused_with_its_origin() {
    let message = load_text("[gateway]\nserver_keep_alive = \"2d\"\n", &[], &Flags::default())
        .unwrap_err()
        .to_string();
    assert!(message.starts_with("gateway.server_keep_alive: must be whole seconds"), "{message}");
    assert!(message.ends_with("ledgermq.toml:2)"), "{message}");
}

#[test]
fn an_address_that_others_reach_needs_anonymous_access_said_aloud() {
    let open = Flags { mqtt: vec!["0.0.0.0:1883".parse().unwrap()], ..Flags::default() };
    let error = load_text("", &[], &open).unwrap_err();
    assert!(matches!(&error, ConfigError::Open(text) if text.contains("0.0.0.0:1883")), "{error}");
    let http = Flags { http: Some("[::]:8080".parse().unwrap()), ..Flags::default() };
    assert!(matches!(load_text("", &[], &http), Err(ConfigError::Open(_))));
    load_text("[gateway]\nallow_anonymous = true\n", &[], &open).unwrap();
    load_text("", &[], &Flags { allow_anonymous: true, ..open }).unwrap();
    let loopback = Flags { mqtt: vec!["[::1]:1883".parse().unwrap()], ..Flags::default() };
    load_text("", &[], &loopback).unwrap();
}

#[test]
fn anonymous_access_forbidden_needs_another_way_in() {
    let closed = "[gateway]\nallow_anonymous = false\n";
    let error = load_text(closed, &[], &Flags::default()).unwrap_err();
    assert!(matches!(&error, ConfigError::Open(text) if text.contains("passwd add")), "{error}");
    let passwords = format!("{closed}password_file = \"p\"\n");
    load_text(&passwords, &[], &Flags::default()).unwrap();
}

#[test]
fn with_passwords_nobody_comes_in_without_unless_that_is_said() {
    let open = Flags { mqtt: vec!["0.0.0.0:1883".parse().unwrap()], ..Flags::default() };
    let passwords = "[gateway]\npassword_file = \"p\"\n";
    let effective = load_text(passwords, &[], &open).unwrap();
    assert!(!effective.config.gateway.allow_anonymous);
    let listed = effective.settings.iter().find(|item| item.key == "gateway.allow_anonymous");
    assert_eq!(listed.unwrap().value, toml::Value::Boolean(false));
    let said = Flags { allow_anonymous: true, ..open };
    assert!(load_text(passwords, &[], &said).unwrap().config.gateway.allow_anonymous);
    let without = load_text("", &[], &Flags::default()).unwrap();
    assert!(without.config.gateway.allow_anonymous);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let path = Path::new("nowhere/ledgermq.toml");
    let error = load(Some(path), std::iter::empty(), &Flags::default()).unwrap_err();
    assert_eq!(error.to_string(), "nowhere/ledgermq.toml does not exist");
}

#[test]
fn the_flags_of_the_cluster_override_its_section() {
    let text = "[cluster]\naddress = \"10.0.0.1:7000\"\njoin = [\"10.0.0.2:7000\", \"10.0.0.3:7000\"]\n\
                node_lost = \"30s\"\n";
    let effective = load_text(text, &[], &Flags::default()).unwrap();
    assert_eq!(effective.config.cluster.join.len(), 2);
    assert_eq!(origin(&effective, "cluster.join[1]"), "ledgermq.toml:3");
    let flags = Flags {
        cluster: Some("10.0.0.9:7001".to_owned()),
        join: vec!["node-4:7000".to_owned()],
        cluster_insecure: true,
        ..Flags::default()
    };
    let effective = load_text(text, &[("LEDGERMQ_CLUSTER__INSECURE", "false")], &flags).unwrap();
    let cluster = &effective.config.cluster;
    assert_eq!(cluster.address, "10.0.0.9:7001");
    assert_eq!(cluster.join, ["node-4:7000"]);
    assert!(cluster.insecure);
    assert_eq!(cluster.node_lost.to_string(), "30s");
    assert_eq!(origin(&effective, "cluster.join[0]"), "flag --join");
    assert_eq!(origin(&effective, "cluster.insecure"), "flag --cluster-insecure");
    assert_eq!(origin(&effective, "cluster.node_lost"), "ledgermq.toml:4");
}

#[test]
fn what_cannot_be_a_cluster_is_refused_with_its_origin() {
    let message = refused("[cluster]\n\naddress = \"node-1\"\n");
    assert!(message.ends_with("ledgermq.toml:3)"), "{message}");
    let flags = Flags { join: vec!["node-1".to_owned()], ..Flags::default() };
    let text = "[cluster]\naddress = \"node-2:7000\"\n";
    let error = load_text(text, &[], &flags).unwrap_err().to_string();
    assert!(error.starts_with("cluster.join: \"node-1\" is not HOST:PORT"), "{error}");
    assert!(error.ends_with("(it comes from: flag --join)"), "{error}");
    let flags = Flags { role: Some(Role::Edge), ..Flags::default() };
    let error = load_text("", &[], &flags).unwrap_err().to_string();
    assert!(error.contains("come later") && error.ends_with("flag --role)"), "{error}");
}

/// A token of a cluster that nobody has.
fn token(id: u8) -> JoinToken {
    use ledgermq_log::cluster::token::Grant;
    use ledgermq_log::cluster::{ClusterId, TokenKey};
    let grant = Grant {
        cluster: ClusterId([id; 16]),
        id: [id; 8],
        expires_s: 1,
        role: Role::Log,
        node: None,
        authority: [0; 32],
        addresses: Vec::new(),
        replaces: None,
    };
    JoinToken::issue(&TokenKey::derive(b"nobody"), grant)
}

#[test]
fn the_token_to_join_with_is_found_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    fs::write(&path, format!("{}\n", token(1))).unwrap();
    let text = format!("[cluster]\njoin_token_file = {:?}\n", path.display().to_string());
    let (second, third) = (token(2).to_string(), token(3).to_string());
    let variable = [("LEDGERMQ_JOIN_TOKEN", second.as_str())];
    let flags = Flags { join_token: Some(third), ..Flags::default() };
    for (environment, flags, expected, from) in [
        (&[][..], &Flags::default(), 1, "ledgermq.toml:2"),
        (&variable[..], &Flags::default(), 2, "environment LEDGERMQ_JOIN_TOKEN"),
        (&variable[..], &flags, 3, "flag --join-token"),
        (&[("LEDGERMQ_JOIN_TOKEN", " ")][..], &Flags::default(), 1, "ledgermq.toml:2"),
    ] {
        let effective = load_text(&text, environment, flags).unwrap();
        assert_eq!(effective.config.join_token, Some(token(expected)));
        assert_eq!(origin(&effective, "cluster.join_token"), from);
        let shown = format!("{effective:?}{}", serde_json::to_string(&effective.settings).unwrap());
        assert!(!shown.contains("lmq1."), "{shown}");
    }
    // A member needs it no more.
    fs::remove_file(&path).unwrap();
    let effective = load_text(&text, &[], &Flags::default()).unwrap();
    assert_eq!(effective.config.join_token, None);
    assert!(effective.settings.iter().all(|setting| setting.key != "cluster.join_token"));
}

#[test]
fn what_is_no_token_is_refused_without_being_shown() {
    let flags = Flags { join_token: Some("lmq1.secret".to_owned()), ..Flags::default() };
    let error = load_text("", &[], &flags).unwrap_err().to_string();
    assert!(error.contains("not a whole one (flag --join-token)"), "{error}");
    assert!(!error.contains("secret"), "{error}");
}
