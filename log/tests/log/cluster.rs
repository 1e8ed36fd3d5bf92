//! Several nodes with real files, sockets and certificates in one process.

use std::net::TcpListener;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ledgermq_core::event::EventRef;
use ledgermq_core::quantity::{ByteSize, Span};
use ledgermq_log::cluster::authority::fingerprint;
use ledgermq_log::cluster::token::Grant;
use ledgermq_log::cluster::{Answer, ClusterConfig, Command, JoinToken, Role};
use ledgermq_log::peers::ClusterDir;
use ledgermq_log::{Asking, Class, ClusterOptions, Gate, Log, LogThread, OpenError, Options};
use tempfile::TempDir;

use crate::support::{Bell, options, publish, stop};

/// Longer than an election takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node's files and where it is reached.
pub(crate) struct Place {
    dir: TempDir,
    node: u64,
    address: String,
    /// Its log keeps little.
    is_small: bool,
}

impl Place {
    fn new(node: u64) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("bound").to_string();
        let dir = tempfile::tempdir().expect("a directory");
        Self { dir, node, address, is_small: false }
    }

    /// One whose log keeps little.
    pub(crate) fn small(node: u64) -> Self {
        Self { is_small: true, ..Self::new(node) }
    }

    fn data(&self) -> &Path {
        self.dir.path()
    }

    fn options(&self, join: &[&Place], token: Option<String>) -> Options {
        let mut options = options(&self.data().join("log"));
        options.node = self.node;
        options.seed = self.node;
        let mut node_lost = ClusterConfig::default().node_lost;
        if self.is_small {
            options.config.hot_bytes_max = ByteSize::mib(2);
            node_lost = Span::secs(6);
        }
        let join = join.iter().map(|other| other.address.clone()).collect();
        let address = self.address.clone();
        options.cluster = Some(ClusterOptions {
            asking: Asking::default(),
            config: ClusterConfig { address, join, node_lost, ..ClusterConfig::default() },
            data: self.data().to_owned(),
            token,
            mqtt: vec![format!("node-{}:1883", self.node)],
        });
        options
    }

    pub(crate) fn open(&self) -> (Log, LogThread) {
        ledgermq_log::open(self.options(&[], None)).expect("opens")
    }

    pub(crate) fn join(&self, by: &Place) -> (Log, LogThread) {
        ledgermq_log::open(self.options(&[by], Some(by.token()))).expect("is let in")
    }

    #[expect(clippy::disallowed_methods, reason = "a token expires by the wall clock")]
    fn token(&self) -> String {
        let loaded = ClusterDir::new(self.data()).load().expect("readable").expect("a member");
        let authority = loaded.authority.expect("it keeps the log");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let grant = Grant {
            cluster: loaded.identity.cluster,
            id: rand_id(),
            expires_s: now + 600,
            role: Role::Log,
            node: None,
            authority: fingerprint(authority.certificate()),
            addresses: vec![self.address.clone()],
            replaces: None,
        };
        JoinToken::issue(&authority.token_key(), grant).to_string()
    }
}

/// Another name for each token.
fn rand_id() -> [u8; 8] {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes()
}

#[expect(clippy::disallowed_methods, reason = "the nodes are real")]
pub(crate) fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn append(log: &Log, payload: &str) -> u64 {
    let mut events = log.builder();
    publish(&mut events, payload.as_bytes());
    log.append(Class::Publish, events).expect("it runs").index
}

/// The payloads of all messages that count, in order.
fn payloads(log: &Log) -> Vec<String> {
    let mut tail = log.tail_gapless(1, Bell::mute());
    let mut batches = Vec::new();
    while tail.position() <= log.committed() {
        tail.take(1 << 20, &mut batches).expect("readable");
    }
    let mut payloads = Vec::new();
    for batch in batches.iter().filter(|batch| batch.is_admitted()) {
        for record in batch.batch().records() {
            let record = record.expect("a record");
            if let EventRef::MessagePublished(message) = record.event().expect("an event") {
                payloads.push(String::from_utf8_lossy(message.payload).into_owned());
            }
        }
    }
    payloads
}

pub(crate) fn voters(log: &Log) -> usize {
    log.members().voters().count()
}

fn leader_of<'a>(nodes: &[&'a (Log, LogThread)]) -> Option<&'a Log> {
    let leads = |log: &&Log| log.status().leader == log.node();
    nodes.iter().map(|(log, _)| log).find(leads)
}

#[test]
fn a_node_with_data_grows_to_three_and_whoever_appends_all_have_it() {
    let places = [1, 2, 3].map(Place::new);
    let first = places[0].open();
    append(&first.0, "before");
    wait("the cluster is founded", || voters(&first.0) == 1);
    let second = places[1].join(&places[0]);
    let third = places[2].join(&places[0]);
    wait("all vote", || [&first, &second, &third].iter().all(|node| voters(&node.0) == 3));
    let mut expected = vec!["before".to_owned()];
    for (at, node) in [&first, &second, &third].into_iter().enumerate() {
        append(&node.0, &format!("from {at}"));
        expected.push(format!("from {at}"));
    }
    let last = append(&first.0, "last");
    expected.push("last".to_owned());
    for node in [&first, &second, &third] {
        wait("it is there", || node.0.committed() >= last);
        assert_eq!(payloads(&node.0), expected);
    }
    [third, second, first].into_iter().for_each(stop);
}

#[test]
fn two_of_three_go_on_without_the_third_which_catches_up() {
    let places = [1, 2, 3].map(Place::new);
    let first = places[0].open();
    let second = places[1].join(&places[0]);
    let third = places[2].join(&places[0]);
    wait("all vote", || voters(&third.0) == 3);
    // The leader goes, in order: at once, it may still be the majority of the one voter of before.
    first.0.hand_over();
    wait("it hands over", || first.0.leading().is_none());
    stop(first);
    let rest = [&second, &third];
    wait("another leads", || leader_of(&rest).is_some());
    let last = (0..20).map(|at| append(&second.0, &format!("{at}"))).max().expect("twenty");
    wait("the other has it", || third.0.committed() >= last);
    let first = places[0].open();
    wait("it caught up", || first.0.committed() >= last);
    assert_eq!(payloads(&first.0), payloads(&third.0));
    assert_eq!(payloads(&first.0).len(), 20);
    append(&first.0, "again");
    [third, second, first].into_iter().for_each(stop);
}

#[test]
fn all_come_back_in_any_order_and_leadership_goes_where_it_is_told() {
    let places = [1, 2, 3].map(Place::new);
    let first = places[0].open();
    let second = places[1].join(&places[0]);
    let third = places[2].join(&places[0]);
    wait("all vote", || [&first, &second, &third].iter().all(|node| voters(&node.0) == 3));
    append(&second.0, "one");
    [first, second, third].into_iter().for_each(stop);
    let third = places[2].open();
    let first = places[0].open();
    append(&third.0, "two");
    let second = places[1].open();
    let last = append(&second.0, "three");
    wait("it is there", || first.0.committed() >= last);
    assert_eq!(payloads(&first.0), ["one", "two", "three"]);
    wait("all are heard", || first.0.cluster_status().online == 3);
    for to in [2, 3, 1] {
        let answer = third.0.command(Command::Transfer { to }).wait();
        assert_eq!(answer, Answer::Done, "to {to}");
        wait("it leads", || third.0.status().leader == to);
    }
    // One leaves for good, and two are left.
    assert_eq!(second.0.command(Command::Remove { node: 3 }).wait(), Answer::Done);
    wait("it is gone", || second.0.members().retired.contains(&3));
    append(&first.0, "four");
    let nobody = second.0.command(Command::Promote { node: 3 }).wait();
    assert!(matches!(nobody, Answer::Refused { .. }), "{nobody:?}");
    [third, second, first].into_iter().for_each(stop);
}

#[test]
fn a_minority_says_so_and_takes_nothing_for_durable() {
    let places = [1, 2, 3].map(Place::new);
    let first = places[0].open();
    let second = places[1].join(&places[0]);
    let third = places[2].join(&places[0]);
    wait("all vote", || voters(&third.0) == 3);
    stop(second);
    stop(third);
    wait("it says so", || !first.0.gate().accepts(Class::Open));
    let reason = first.0.gate().reason().unwrap_or_default().to_owned();
    assert!(reason.contains("cluster"), "{reason}");
    let second = places[1].open();
    wait("it is well again", || first.0.gate().accepts(Class::Open));
    append(&first.0, "after");
    [second, first].into_iter().for_each(stop);
}

#[test]
fn a_founder_that_lost_its_log_founds_no_second_cluster() {
    let places = [1, 2, 3].map(Place::new);
    let first = places[0].open();
    let second = places[1].join(&places[0]);
    let third = places[2].join(&places[0]);
    wait("all vote", || voters(&third.0) == 3);
    append(&first.0, "one");
    [first, second, third].into_iter().for_each(stop);
    std::fs::remove_dir_all(places[0].data().join("log")).expect("it is there");
    let first = places[0].open();
    thread::sleep(Duration::from_secs(3));
    assert_eq!(first.0.status().leader, 0, "it does not lead by itself");
    assert!(!first.0.gate().accepts(Class::Open));
    stop(first);
}

/// Three voters, of which the third is stopped; what it has is in the log by then.
fn three_and_a_stopped_one(places: &[Place; 3]) -> [(Log, LogThread); 2] {
    let first = places[0].open();
    let second = places[1].join(&places[0]);
    let third = places[2].join(&places[0]);
    wait("all vote", || [&first, &second, &third].iter().all(|node| voters(&node.0) == 3));
    let last = (0..20).map(|at| append(&third.0, &format!("{at}"))).max().expect("twenty");
    wait("it is there", || third.0.committed() >= last);
    stop(third);
    [first, second]
}

/// The third node opens, says why it begins anew, and is a voter with the whole log again.
fn is_filled_again(options: Options, rest: [(Log, LogThread); 2], why: &str) {
    let joined = rest[0].0.members().nodes[&3].joined;
    let third = ledgermq_log::open(options).expect("the others have it");
    let doubt = || third.0.cluster_status().doubt.is_some_and(|doubt| doubt.contains(why));
    wait("it says why", || doubt() || rest[0].0.members().nodes[&3].joined > joined);
    let last = append(&rest[1].0, "meanwhile");
    wait("it is let in again", || rest[0].0.members().nodes[&3].joined > joined);
    wait("it votes again", || voters(&third.0) == 3 && third.0.committed() >= last);
    // What a node says of the cluster is looked at ten times a second.
    wait("it doubts no more", || third.0.cluster_status().doubt.is_none());
    assert_eq!(payloads(&third.0), payloads(&rest[0].0));
    assert_eq!(payloads(&third.0).len(), 21);
    // And its vote counts.
    let [first, second] = rest;
    stop(second);
    append(&third.0, "after");
    [third, first].into_iter().for_each(stop);
}

fn kept(place: &Place) -> usize {
    let names = std::fs::read_dir(place.data()).expect("readable");
    let names = names.map(|entry| entry.expect("readable").file_name());
    names.filter(|name| name.to_string_lossy().starts_with("log.damaged-")).count()
}

#[test]
fn a_log_that_is_gone_is_filled_by_the_others() {
    let places = [1, 2, 3].map(Place::new);
    let rest = three_and_a_stopped_one(&places);
    std::fs::remove_dir_all(places[2].data().join("log")).expect("it is there");
    is_filled_again(places[2].options(&[], None), rest, "the log is gone");
}

#[test]
fn a_damaged_log_makes_way_with_what_was_made_from_it() {
    let places = [1, 2, 3].map(Place::new);
    let rest = three_and_a_stopped_one(&places);
    let data = places[2].data();
    let files = std::fs::read_dir(data.join("log/raft")).expect("readable");
    let files = files.map(|entry| entry.expect("readable").path());
    let file = files.filter(|path| path.extension().is_some_and(|it| it == "raftlog")).max();
    let file = file.expect("a log file");
    let mut bytes = std::fs::read(&file).expect("readable");
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("something was written");
    bytes[end / 2] ^= 0xff;
    std::fs::write(&file, bytes).expect("writable");
    std::fs::write(data.join("derived"), b"x").expect("writable");
    let mut options = places[2].options(&[], None);
    options.derived = vec![data.join("derived")];
    is_filled_again(options, rest, "is damaged at byte");
    assert_eq!((kept(&places[2]), data.join("derived").exists()), (1, false));
}

#[test]
fn a_log_of_before_is_given_up_once_the_node_is_out() {
    let places = [1, 2, 3].map(Place::new);
    let [first, second] = three_and_a_stopped_one(&places);
    let data = places[2].data();
    let copy = |from: &str, to: &str| {
        let _ = std::fs::remove_dir_all(data.join(to));
        let copied = std::process::Command::new("cp")
            .args(["-a", from, to])
            .current_dir(data)
            .status()
            .expect("it runs");
        assert!(copied.success());
    };
    copy("log", "image");
    let third = places[2].open();
    let last = append(&third.0, "later");
    wait("it is there", || third.0.committed() >= last);
    stop(third);
    copy("image", "log");
    let (log, thread) = places[2].open();
    let mut why = String::new();
    wait("it ends", || {
        why = log.gate().reason().unwrap_or_default().to_owned();
        why.contains("acknowledged") && matches!(log.gate(), Gate::Stopped { .. })
    });
    assert!(thread.join().is_err());
    assert_eq!(ledgermq_log::given_up(data), Some(why));
    let third = places[2].open();
    wait("it votes again", || voters(&third.0) == 3 && third.0.cluster_status().doubt.is_none());
    wait("it has all", || payloads(&third.0).len() == 21);
    assert_eq!((ledgermq_log::given_up(data), kept(&places[2])), (None, 1));
    [third, second, first].into_iter().for_each(stop);
}

#[test]
fn who_may_not_come_in_is_told_why() {
    let (one, two, other) = (Place::new(1), Place::new(2), Place::new(9));
    let first = one.open();
    let stranger = other.open();
    wait("both are founded", || voters(&first.0) + voters(&stranger.0) == 2);
    let refused = |options: Options| match ledgermq_log::open(options) {
        Err(OpenError::Setting(why)) => why,
        other => panic!("{:?}", other.map(drop)),
    };
    let without = refused(two.options(&[&one], None));
    assert!(without.contains("ledgermq cluster token"), "{without}");
    let token = one.token();
    let second = ledgermq_log::open(two.options(&[&one], Some(token.clone()))).expect("let in");
    let third = Place::new(3);
    let spent = refused(third.options(&[&one], Some(token)));
    assert!(spent.contains("used"), "{spent}");
    let twice = Place::new(2);
    let taken = refused(twice.options(&[&one], Some(one.token())));
    assert!(taken.contains("member already"), "{taken}");
    // A member's directory under another number.
    stop(second);
    let mut renamed = two.options(&[], None);
    renamed.node = 5;
    let wrong = refused(renamed);
    assert!(wrong.contains("node 2"), "{wrong}");
    [first, stranger].into_iter().for_each(stop);
}
