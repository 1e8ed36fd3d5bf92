//! What must hold of any text in the place of a `password_file`, and the inputs to begin with.
//! `gateway/tests/fuzz.rs` includes this file: every seed is checked in every test run.

use ledgermq_gateway::passwords::{Checked, PasswordFault, Passwords, is_comment, split};

/// Seeds of a target by name; none for an unknown target.
pub fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    if target != "password_file" {
        return Vec::new();
    }
    let seeds = [
        "# who\n\nu v:$6$AAECAwQFBgcICQoL$JqsxEv/ucyxjA5DKsQ+Y8A==\r\nw:$7$101$AAECAw==$AAECAw==\n",
        "u:$argon2id$v=19$m=64,t=1,p=2$PYqvenil/2Lq/fUrtruebg$Q53VIBZgXckF6CAPE22f+88x7795+8q4\n",
        "u:$argon2id$v=19$m=65,t=3,p=0002000000000$PYil/2Lql/uebg$Q53VIBZgXckF6227795+8q4\n",
        "u:$6$AA==$AA==\nu:$6$AA==$AA==",
        "u:clear text\n",
        "\u{feff}:$7$0$$\n",
    ];
    let numbered = (0..).zip(seeds);
    numbered.map(|(number, text)| (format!("passwords-{number}"), text.into())).collect()
}

/// An error names a line of the text, and nothing of it but the user; what is read has the users
/// of its lines.
pub fn password_file(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines();
    let entries: Vec<_> = lines.clone().filter(|line| !is_comment(line)).collect();
    match Passwords::parse(text) {
        Ok(passwords) => {
            assert_eq!(passwords.len(), entries.len());
            // The others cost what they say, up to seconds.
            if !text.contains("$argon2id$") && !text.contains("$7$") {
                for (user, _) in entries.iter().filter_map(|line| split(line)) {
                    assert_ne!(passwords.check(user, b"password"), Checked::Unknown);
                }
            }
        }
        Err(error) => {
            let line = lines.clone().nth(error.line - 1).expect("a line of the text");
            let named = match &error.fault {
                PasswordFault::Form => None,
                PasswordFault::Hash(user) | PasswordFault::Twice(user) => Some(&**user),
            };
            assert_eq!(named, split(line).map(|(user, _)| user).filter(|_| named.is_some()));
        }
    }
}
