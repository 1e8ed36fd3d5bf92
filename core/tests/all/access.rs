//! `may` against a model that is written from the text of the manual and shares nothing with it.

mod model;

use std::fmt::Write as _;

use ledgermq_core::access::{Action, Identity, Rules, parse};

use model::Model;

const LEVELS: [&str; 5] = ["a", "b", "u", "$SYS", ""];
const FILTER_LEVELS: [&str; 9] = ["a", "b", "u", "+", "+", "$SYS", "", "a", "+"];
const PATTERN_LEVELS: [&str; 8] = ["a", "%u", "%c", "+", "b", "x%c", "u", "+"];
const CLIENTS: [&str; 7] = ["a", "b", "u", "+", "#", "$SYS", "a/b"];
const USERS: [Option<&str>; 7] =
    [None, Some("a"), Some("u"), Some("u v"), Some("+"), Some("a/#"), Some("$SYS")];
const DECISIONS: u32 = 1_000_000;

/// xorshift: the seed is the test's, so that a failure repeats itself.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn path(&mut self, levels: &[&str], hash: usize) -> String {
        let count = 1 + self.below(3);
        let mut path: Vec<_> = (0..count).map(|_| self.of(levels)).collect();
        if self.below(10) < hash {
            path.truncate(2);
            path.push("#");
        }
        match path.join("/") {
            empty if empty.is_empty() => "a".into(),
            path => path,
        }
    }

    fn rule(&mut self, keyword: &str, levels: &[&str], acl: &mut String) {
        let access = self.of(&["", "read ", "write ", "readwrite ", "deny ", "read "]);
        writeln!(acl, "{keyword} {access}{}", self.path(levels, 3)).unwrap();
    }

    fn acl(&mut self) -> String {
        let mut acl = String::new();
        for user in [None, Some("u"), Some("a"), Some("u v"), Some("+")] {
            if let Some(user) = user {
                writeln!(acl, "user {user}").unwrap();
            }
            for _ in 0..self.below(4) {
                self.rule("topic", &FILTER_LEVELS, &mut acl);
            }
        }
        for _ in 0..self.below(4) {
            self.rule("pattern", &PATTERN_LEVELS, &mut acl);
        }
        acl
    }
}

#[test]
fn a_million_decisions_are_those_of_the_model() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let (mut decisions, mut granted) = (0, 0);
    while decisions < DECISIONS {
        let acl = random.acl();
        let rules = Rules::new(Some(&parse(&acl).unwrap()));
        for _ in 0..5 {
            let (client, username) = (random.of(&CLIENTS), random.of(&USERS));
            let model = Model::new(&acl, client, username);
            let who = Identity { client, username };
            for round in 0..100 {
                let (action, topic) = match round {
                    0..3 => (Action::Subscribe, random.path(&FILTER_LEVELS, 3)),
                    3 => {
                        let filter = random.path(&FILTER_LEVELS, 3);
                        (Action::Subscribe, format!("$share/g/{filter}"))
                    }
                    4..52 => (Action::Publish, random.path(&LEVELS, 0)),
                    _ => (Action::Receive, random.path(&LEVELS, 0)),
                };
                let expected = match action {
                    Action::Publish => model.may_write(&topic),
                    Action::Receive => model.may_read(&topic),
                    Action::Subscribe => match topic.strip_prefix("$share/g/") {
                        Some(filter) => model.can_read_all(filter),
                        None => model.could_read(&topic),
                    },
                };
                let decided = rules.may(&who, action, &topic);
                assert_eq!(decided, expected, "{acl}\n{who:?} {action:?} {topic:?}");
                decisions += 1;
                granted += u32::from(decided);
            }
        }
    }
    assert!((DECISIONS / 20..DECISIONS / 2).contains(&granted), "{granted} of {decisions}");
}
