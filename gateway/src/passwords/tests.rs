use std::net::IpAddr;
use std::time::Duration;

use ledgermq_core::offset::Timestamp;

use crate::passwords::attempts::Attempts;
use crate::passwords::hash::Scratch;
use crate::passwords::verified::Verified;
use crate::passwords::{Checked, PasswordFault, Passwords, hash};

/// `secret`, as Mosquitto's tool and the reference implementation of Argon2 write it.
const MOSQUITTO_7: &str = "$7$101$s9/pPC2rn/ML62Uc$Ar2KAsVqXQASBIO7hDbr1iMhFpOa4/zQvj/hDA6AX3vyu+uugJzfbuy4pBFfHcDFilJvbfXOAvhyrCf2Rlyx+w==";
const MOSQUITTO_6: &str = "$6$AAECAwQFBgcICQoL$JqsxEv/ucyxjA5DKsQ+Y8CDWaQDNQI9FpAkmfwAqWfwZLk/JEGgM0EpylrJHAZKKyFQjJeZ3nFaHjPzOzPPmPw==";
const ARGON2: &str = "$argon2id$v=19$m=64,t=1,p=2$PYqvenil/2Lq/fUrtruebg$Q53VIBZgXckF6CAPE22f+88x7795+8q444wHcB5GZkY";

fn fault(text: &str) -> (usize, PasswordFault) {
    let error = Passwords::parse(text).unwrap_err();
    (error.line, error.fault)
}

#[test]
fn hashes_of_other_programs_are_read() {
    for foreign in [MOSQUITTO_7, MOSQUITTO_6, ARGON2] {
        let passwords = Passwords::parse(&format!("u:{foreign}\n")).unwrap();
        assert_eq!(passwords.check("u", b"secret"), Checked::Right, "{foreign}");
        assert_eq!(passwords.check("u", b"Secret"), Checked::Wrong, "{foreign}");
        assert_eq!(passwords.check("u", b""), Checked::Wrong, "{foreign}");
        assert_eq!(passwords.check("v", b"secret"), Checked::Unknown, "{foreign}");
    }
}

#[test]
fn what_we_write_we_read() {
    let (one, other) = (hash::of(b"p\0w:$").unwrap(), hash::of(b"p\0w:$").unwrap());
    assert_ne!(one, other, "each has a salt of its own");
    let passwords = Passwords::parse(&format!("# x\n\na b:{one}\r\nc:{other}")).unwrap();
    assert_eq!(passwords.len(), 2);
    assert_eq!(passwords.check("a b", b"p\0w:$"), Checked::Right);
    assert_eq!(passwords.check("c", b"p\0w:"), Checked::Wrong);
}

#[test]
fn the_memory_of_one_comparison_serves_the_next() {
    let ours = hash::of(b"secret").unwrap();
    let costly = ARGON2.replace("m=64,", "m=66000,");
    let passwords = Passwords::parse(&format!("a:{ours}\nb:{ARGON2}\nc:{costly}\n")).unwrap();
    let mut scratch = Scratch::default();
    for user in ["a", "b", "a", "b"] {
        assert_eq!(passwords.check_in(user, b"secret", &mut scratch), Checked::Right);
        assert_eq!(passwords.check_in(user, b"Secret", &mut scratch), Checked::Wrong);
        assert_eq!(scratch.kib(), 19_456);
    }
    // What one line of a file asks for is not kept for good.
    assert_eq!(passwords.check_in("c", b"secret", &mut scratch), Checked::Wrong);
    assert_eq!(scratch.kib(), 0);
}

#[test]
fn an_empty_file_lets_nobody_in() {
    let passwords = Passwords::parse("# nobody\n").unwrap();
    assert!(passwords.is_empty());
    assert_eq!(passwords.check("", b""), Checked::Unknown);
    assert_eq!(passwords.check("u", b"secret"), Checked::Unknown);
}

/// Mosquitto writes such hashes and never lets their users in; nor may its files here.
#[test]
fn an_empty_password_is_never_right() {
    let empty = "$6$o+53eGXtmlfHeYrg$FY7X9DNQ4uU1j0NiPmGOOSU05ZSzhqNmNhXIof/0nLpVb1zDhcRHdaC72E3Y\
                 ryH7dtTiG/r6jH6C8J+30cZBgA==";
    assert!(
        hash::Hash::parse(empty).unwrap().is_of(b"", &mut Scratch::default()),
        "it is that of the empty password"
    );
    let passwords = Passwords::parse(&format!("u:{empty}\n")).unwrap();
    assert_eq!(passwords.check("u", b""), Checked::Wrong);
    assert_eq!(passwords.check("v", b""), Checked::Unknown);
}

#[test]
fn a_wrong_line_is_named_without_what_it_hides() {
    assert_eq!(fault("u"), (1, PasswordFault::Form));
    assert_eq!(fault(&format!("u:{ARGON2}\n:x")), (2, PasswordFault::Form));
    assert_eq!(fault("\nu:clear text"), (2, PasswordFault::Hash("u".into())));
    assert_eq!(fault(&format!("u:{ARGON2}\nu:{ARGON2}")), (2, PasswordFault::Twice("u".into())));
    let error = Passwords::parse("u:hunter2").unwrap_err().to_string();
    assert_eq!(
        error,
        "line 1: the hash of user \"u\" is of no known kind; write it with 'ledgermq passwd add'"
    );
}

#[test]
fn a_hash_that_asks_for_too_much_is_refused() {
    for hash in [
        "$argon2id$v=19$m=4194304,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo",
        "$argon2id$v=19$m=64,t=1000000,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo",
        "$argon2id$v=19$m=65,t=3,p=2000000000$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo",
        "$argon2id$v=19$m=1048576,t=2,p=1024$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo",
        "$argon2id$v=16$m=64,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo",
        "$argon2i$v=19$m=64,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo",
        "$argon2id$v=19$m=64,t=2,p=1$c2FsdA$aGFzaGhhc2hoYXNo",
        "$argon2id$v=19$m=64,t=2$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo",
        "$7$0$c2FsdA==$aGFzaA==",
        "$7$4000000000$c2FsdA==$aGFzaA==",
        "$7$101$$",
        "$7$101$c2FsdA==$",
        "$6$c2FsdA==",
        "",
    ] {
        assert_eq!(fault(&format!("u:{hash}")).0, 1, "{hash}");
    }
}

#[test]
fn an_unknown_user_costs_what_a_known_one_does() {
    // The work is counted, not the time: the decoy is one of the file's own hashes.
    let passwords = Passwords::parse(&format!("u:{MOSQUITTO_7}")).unwrap();
    assert_eq!(format!("{:?}", passwords.decoys), "[Pbkdf2]");
    assert_eq!(format!("{:?}", Passwords::parse("").unwrap().decoys), "[Argon2id]");
}

const SECOND: Duration = Duration::from_secs(1);

fn peer(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn ten_failures_make_a_pair_of_address_and_name_wait_a_minute_and_nobody_else() {
    let mut attempts = Attempts::default();
    let (here, mut now) = (peer("10.0.0.1"), Timestamp(1_000_000_000));
    for _ in 0..10 {
        assert!(attempts.allows(now, here, "u"));
        attempts.failed(now, here, "u");
        now = now.plus(SECOND);
    }
    assert!(!attempts.allows(now, here, "u"));
    assert!(!attempts.allows(now, peer("::ffff:10.0.0.1"), "u"));
    assert!(attempts.allows(now, here, "v"));
    assert!(attempts.allows(now, peer("10.0.0.2"), "u"));
    now = now.plus(SECOND * 58);
    assert!(!attempts.allows(now, here, "u"));
    now = now.plus(SECOND);
    assert!(attempts.allows(now, here, "u"));
    attempts.failed(now, here, "u");
    assert!(attempts.allows(now, here, "u"));
}

#[test]
fn slow_failures_and_a_success_begin_anew() {
    let mut attempts = Attempts::default();
    let (here, mut now) = (peer("fd00::1"), Timestamp(1_000_000_000));
    for _ in 0..40 {
        attempts.failed(now, here, "u");
        now = now.plus(SECOND * 7);
        assert!(attempts.allows(now, here, "u"));
    }
    for _ in 0..9 {
        attempts.failed(now, here, "v");
    }
    attempts.succeeded(here, "v");
    attempts.failed(now, here, "v");
    assert!(attempts.allows(now, here, "v"));
    for host in 0..10 {
        attempts.failed(now, peer(&format!("fd00::{host}")), "w");
    }
    assert!(!attempts.allows(now, peer("fd00::99"), "w"), "one subscriber has a network of /64");
    assert!(attempts.allows(now, peer("fd00:0:0:1::99"), "w"));
}

#[test]
fn failures_take_bounded_memory() {
    let mut attempts = Attempts::default();
    let now = Timestamp(1_000_000_000);
    for _ in 0..10 {
        attempts.failed(now, peer("10.0.0.1"), "u");
    }
    for number in 0..65_535 {
        attempts.failed(now, peer("10.0.0.2"), &format!("user {number}"));
    }
    assert!(!attempts.allows(now, peer("10.0.0.1"), "u"));
    attempts.failed(now, peer("10.0.0.2"), "one more");
    assert!(attempts.allows(now, peer("10.0.0.1"), "u"), "the oldest goes");
}

#[test]
fn a_password_that_was_right_is_known_until_another_is() {
    let mut verified = Verified::new();
    assert!(!verified.knows("u", b"secret"));
    verified.insert("u", b"secret");
    assert!(verified.knows("u", b"secret") && !verified.knows("v", b"secret"));
    verified.insert("u", b"other");
    assert!(verified.knows("u", b"other") && !verified.knows("u", b"secret"));
    for number in 0..20_000 {
        verified.insert(&format!("user {number}"), b"x");
    }
    assert!(!verified.knows("u", b"other"), "it is bounded");
    assert!(!format!("{verified:?}").contains("other"));
}
