use std::sync::mpsc;

use super::*;
use crate::passwords::hash;

/// Cheap, so that many attempts take no time: `secret`.
const CHEAP: &str = "$6$AAECAwQFBgcICQoL$JqsxEv/ucyxjA5DKsQ+Y8CDWaQDNQI9FpAkmfwAqWfwZLk/JEGgM0EpylrJHAZKKyFQjJeZ3nFaHjPzOzPPmPw==";

fn file(text: &str) -> (PathBuf, Authenticator) {
    let path = std::env::temp_dir().join(format!(
        "ledgermq-passwords-{}-{:?}",
        std::process::id(),
        thread::current().id()
    ));
    fs::write(&path, text).unwrap();
    (path.clone(), Authenticator::start(path).unwrap())
}

fn attempt(username: &str, password: &[u8]) -> (Attempt, mpsc::Receiver<bool>) {
    attempt_from(1, username, password)
}

fn attempt_from(host: u8, username: &str, password: &[u8]) -> (Attempt, mpsc::Receiver<bool>) {
    let (answer, answered) = mpsc::channel();
    let attempt = Attempt {
        peer: [10, 0, 0, host].into(),
        username: username.into(),
        password: password.into(),
        answer: Box::new(move |is_right| {
            let _ = answer.send(is_right);
        }),
    };
    (attempt, answered)
}

fn ask(authenticator: &Authenticator, username: &str, password: &[u8]) -> bool {
    let (attempt, answered) = attempt(username, password);
    assert!(authenticator.submit(attempt).is_ok());
    answered.recv().unwrap()
}

#[test]
fn an_attempt_is_answered_and_counted() {
    let (path, authenticator) = file(&format!("u:{CHEAP}\nv:{}", hash::of(b"other").unwrap()));
    assert!(ask(&authenticator, "u", b"secret"));
    assert!(ask(&authenticator, "v", b"other"));
    assert!(ask(&authenticator, "v", b"other"));
    assert!(!ask(&authenticator, "v", b"secret"));
    assert!(!ask(&authenticator, "nobody", b"secret"));
    let stats = AuthenticatorStats { accepted: 3, refused: 2, held_off: 0 };
    assert_eq!(authenticator.stats(), stats);
    fs::remove_file(path).unwrap();
}

#[test]
fn who_guesses_is_held_off_even_with_the_right_password() {
    let (path, authenticator) = file(&format!("u:{CHEAP}\nv:{CHEAP}"));
    for _ in 0..10 {
        assert!(!ask(&authenticator, "u", b"guess"));
    }
    assert!(!ask(&authenticator, "u", b"secret"));
    assert!(ask(&authenticator, "v", b"secret"));
    assert_eq!(authenticator.stats().held_off, 1);
    fs::remove_file(path).unwrap();
}

#[test]
fn a_reload_forgets_what_was_right_and_a_bad_file_changes_nothing() {
    let (path, authenticator) = file(&format!("u:{CHEAP}"));
    assert!(ask(&authenticator, "u", b"secret"));
    fs::write(&path, "u:secret").unwrap();
    let error = authenticator.reload().unwrap_err().to_string();
    assert!(error.contains("line 1") && !error.contains(":secret"), "{error}");
    assert!(ask(&authenticator, "u", b"secret"));
    fs::write(&path, format!("u:{}", hash::of(b"new").unwrap())).unwrap();
    authenticator.reload().unwrap();
    assert!(!ask(&authenticator, "u", b"secret"));
    assert!(ask(&authenticator, "u", b"new"));
    fs::remove_file(&path).unwrap();
    assert!(matches!(authenticator.reload().unwrap_err().fault, PasswordsFault::Read(_)));
    assert!(ask(&authenticator, "u", b"new"));
}

#[test]
fn a_full_queue_gives_the_attempt_back() {
    let (path, authenticator) = file(&format!("u:{CHEAP}"));
    // Nobody takes anything while the table of attempts is held.
    let held = lock(&authenticator.shared.attempts);
    let mut answers = Vec::new();
    let mut fill = |host| loop {
        let (attempt, answered) = attempt_from(host, "u", b"secret");
        match authenticator.submit(attempt) {
            Ok(()) => answers.push(answered),
            Err(attempt) => return (answers.len(), attempt),
        }
    };
    // One address alone does not fill it.
    let half = WAITING_OF_ADDRESS_MAX..=WAITING_OF_ADDRESS_MAX + THREADS_MAX;
    assert!(half.contains(&fill(1).0));
    fill(2);
    let (waiting, refused) = fill(3);
    assert!((WAITING_MAX..=WAITING_MAX + THREADS_MAX).contains(&waiting));
    assert!(!format!("{refused:?}").contains("secret"));
    drop(held);
    for answered in answers {
        assert!(answered.recv().unwrap());
    }
    fs::remove_file(path).unwrap();
}
