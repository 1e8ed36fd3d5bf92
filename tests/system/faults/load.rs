//! The clients of a cluster: publishers and subscribers of QoS 1 and 2 on all nodes, two groups of
//! Shared Subscriptions, sessions that sleep, wills.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ledgermq_core::packet::QoS;

use crate::support::client::Client;
use crate::support::history::{Delivered, Published, Verdict};
use crate::support::random::Random;
use crate::support::traffic;

use super::judge;
use super::publisher::Publisher;
use super::subscriber::Subscriber;
use super::watch::Watch;
use super::wills::{self, Testator, Wills};

/// Publishers that speak to any node; each node has one more for itself.
const ROAMING: usize = 4;
/// Members of each group.
const MEMBERS: usize = 3;
/// Sessions that are offline during the faults.
const SLEEPERS: usize = 6;
/// Clients that leave wills, at a time.
const TESTATORS: usize = 3;
/// How long nothing may come while something is due.
const STANDSTILL: Duration = Duration::from_secs(30);
const BOTH: [QoS; 2] = [QoS::AtLeastOnce, QoS::ExactlyOnce];

/// What all clients know.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    /// Where the nodes are reached.
    pub(crate) nodes: Arc<[SocketAddr]>,
    /// The nodes that clients go to: a bit for each.
    open: Arc<AtomicU64>,
    pub(crate) publishing: Arc<AtomicBool>,
    pub(crate) subscribing: Arc<AtomicBool>,
    /// Messages that came.
    pub(crate) arrivals: Arc<AtomicU64>,
    pub(crate) watch: Arc<Watch>,
}

impl Scene {
    /// A node that clients go to.
    pub(crate) fn any_node(&self, random: &mut Random) -> usize {
        let open = self.open_nodes();
        open[usize::try_from(random.within(0..open.len() as u64)).expect("few nodes")]
    }

    pub(crate) fn is_open(&self, node: usize) -> bool {
        self.open.load(Ordering::Relaxed) & 1 << node != 0
    }

    /// All that clients go to.
    pub(crate) fn open_nodes(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.is_open(*node)).collect()
    }

    fn go_to(&self, nodes: &[usize]) {
        let bits = nodes.iter().fold(0, |bits, node| bits | 1 << node);
        self.open.store(bits, Ordering::Relaxed);
    }
}

/// Ends the clients of a test that fails.
struct Ending(Scene);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.publishing.store(false, Ordering::Relaxed);
        self.0.subscribing.store(false, Ordering::Relaxed);
    }
}

/// The running load.
pub(crate) struct Load {
    scene: Scene,
    _ending: Ending,
    wills_came: Arc<AtomicU64>,
    publishers: Vec<JoinHandle<Published>>,
    testators: Vec<JoinHandle<Wills>>,
    subscribers: Vec<JoinHandle<Delivered>>,
    groups: [Vec<JoinHandle<Delivered>>; 2],
    watcher: JoinHandle<Delivered>,
    random: Random,
}

/// What all clients did and saw.
pub(crate) struct Histories {
    pub(crate) published: Vec<Published>,
    pub(crate) delivered: Vec<Delivered>,
    pub(crate) groups: [Vec<Delivered>; 2],
    pub(crate) wills: Vec<Wills>,
    pub(crate) watcher: Delivered,
}

impl Load {
    /// Starts it; every session and subscription exists when this returns.
    pub(crate) fn start(nodes: &[SocketAddr], random: &mut Random) -> Self {
        let all: Vec<usize> = (0..nodes.len()).collect();
        Self::start_at(nodes, &all, random)
    }

    /// The same with some of the nodes, until it is told of others.
    pub(crate) fn start_at(nodes: &[SocketAddr], open: &[usize], random: &mut Random) -> Self {
        let mut random = Random::new(random.next());
        let scene = Scene {
            nodes: nodes.into(),
            open: Arc::default(),
            publishing: Arc::new(AtomicBool::new(true)),
            subscribing: Arc::new(AtomicBool::new(true)),
            arrivals: Arc::default(),
            watch: Arc::new(Watch::new(nodes.len())),
        };
        scene.go_to(open);
        let wills_came = Arc::default();
        let mut starting = Starting { scene: &scene, random: &mut random };
        for n in 0..SLEEPERS {
            let name = sleeper(n);
            let (_, client) = starting.subscriber(name, QoS::AtLeastOnce, &["rare/#"]);
            client.disconnect();
        }
        let filters = ["crash/#", "kept/#", "rare/#"];
        let subscribers = BOTH.map(|qos| starting.run(name("subscriber", qos), qos, &filters));
        let groups = BOTH.map(|qos| {
            let filter = format!("$share/{}/crash/#", name("group", qos));
            let member = |n| format!("{}-member-{n}", name("group", qos));
            (0..MEMBERS).map(|n| starting.run(member(n), qos, &[&filter])).collect()
        });
        let (mut watcher, client) =
            starting.subscriber("watcher".to_owned(), QoS::ExactlyOnce, &["will/#"]);
        watcher.scene.arrivals = Arc::clone(&wills_came);
        watcher.identify = wills::identify;
        let watcher = thread::spawn(move || watcher.run(client));
        let publishers = starting.publishers();
        let testators = starting.testators();
        let subscribers = subscribers.into();
        let _ending = Ending(scene.clone());
        Self {
            scene,
            _ending,
            wills_came,
            publishers,
            testators,
            subscribers,
            groups,
            watcher,
            random,
        }
    }

    /// From now on clients go to these nodes alone. Whoever is elsewhere stays as long as it may.
    pub(crate) fn go_to(&self, nodes: &[usize]) {
        self.scene.go_to(nodes);
    }

    /// What sees when acknowledgements flow.
    pub(crate) fn watch(&self) -> &Watch {
        &self.scene.watch
    }

    /// Messages that arrived at subscribers so far.
    pub(crate) fn arrivals(&self) -> u64 {
        self.scene.arrivals.load(Ordering::Relaxed)
    }

    /// Lets publishers complete what is on its way and subscribers receive it, and judges. The
    /// cluster is whole.
    pub(crate) fn finish(mut self) -> Verdict {
        self.scene.publishing.store(false, Ordering::Relaxed);
        let published: Vec<Published> =
            self.publishers.into_iter().map(|it| join(it, "publisher")).collect();
        let wills: Vec<Wills> = self.testators.into_iter().map(|it| join(it, "testator")).collect();
        let acknowledged: usize = published.iter().map(|it| it.acknowledged.len()).sum();
        // Groups have no share of what is kept or rare.
        let shared: usize = published.iter().map(judge::count_of_shared).sum();
        let due = 2 * (acknowledged + shared) as u64;
        wait_standstill(&self.scene.arrivals, |came| came >= due);
        wait_standstill(&self.wills_came, |came| wills::are_complete(&wills, came));
        self.scene.subscribing.store(false, Ordering::Relaxed);
        let mut delivered: Vec<Delivered> =
            self.subscribers.into_iter().map(|it| join(it, "subscriber")).collect();
        let groups = self
            .groups
            .map(|members| members.into_iter().map(|it| join(it, "member of a group")).collect());
        let watcher = join(self.watcher, "watcher");
        for n in 0..SLEEPERS {
            let node = self.scene.any_node(&mut self.random);
            delivered.push(judge::wake(self.scene.nodes[node], &sleeper(n), &published));
        }
        let histories = Histories { published, delivered, groups, wills, watcher };
        judge::judge(&histories, &self.scene)
    }
}

struct Starting<'a> {
    scene: &'a Scene,
    random: &'a mut Random,
}

impl Starting<'_> {
    fn random(&mut self) -> Random {
        Random::new(self.random.next())
    }

    fn subscriber(&mut self, name: String, qos: QoS, filters: &[&str]) -> (Subscriber, Client) {
        let random = self.random();
        let node = self.scene.any_node(self.random);
        let subscriber = Subscriber::new(self.scene.clone(), name, qos, traffic::identify, random);
        let client = subscriber.subscribe(self.scene.nodes[node], filters);
        (subscriber, client)
    }

    fn run(&mut self, name: String, qos: QoS, filters: &[&str]) -> JoinHandle<Delivered> {
        let (subscriber, client) = self.subscriber(name, qos, filters);
        thread::spawn(move || subscriber.run(client))
    }

    fn publishers(&mut self) -> Vec<JoinHandle<Published>> {
        let settled = (0..self.scene.nodes.len())
            .map(|node| (format!("settled-{}", node + 1), QoS::AtLeastOnce, Some(node)));
        let roaming = (0..ROAMING).map(|n| (format!("roaming-{n}"), BOTH[n % 2], None));
        let all: Vec<_> = settled.chain(roaming).collect();
        let start = |(name, qos, home)| {
            let random = self.random();
            let publisher = Publisher::new(self.scene.clone(), name, qos, home, random);
            thread::spawn(move || publisher.run())
        };
        all.into_iter().map(start).collect()
    }

    fn testators(&mut self) -> Vec<JoinHandle<Wills>> {
        let start = |n| {
            let (scene, random) = (self.scene.clone(), self.random());
            let testator = Testator { scene, random, name: format!("testator-{n}") };
            thread::spawn(move || testator.run())
        };
        (0..TESTATORS).map(start).collect()
    }
}

fn name(what: &str, qos: QoS) -> String {
    format!("{what}-{}", qos as u8)
}

fn sleeper(n: usize) -> String {
    format!("sleeper-{n}")
}

fn join<T>(thread: JoinHandle<T>, what: &str) -> T {
    thread.join().unwrap_or_else(|_| panic!("a {what} panicked"))
}

/// Waits until what came is enough and a moment has passed, or nothing comes for too long.
fn wait_standstill(arrivals: &AtomicU64, is_enough: impl Fn(u64) -> bool) {
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let now = arrivals.load(Ordering::Relaxed);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        // Repetitions count too, so having enough is no proof.
        let patience = if is_enough(now) { Duration::from_secs(2) } else { STANDSTILL };
        if since.elapsed() > patience {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}
