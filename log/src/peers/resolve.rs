//! Names of nodes become addresses on threads of their own: asking the system may take seconds, and
//! one slow name must not keep the others waiting.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, io, thread};

use crate::cluster::peering::Dial;
use crate::wake::Wake;

/// Names that are looked for at the same time.
const LOOKUPS_MAX: usize = 64;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// What became of a name.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) dial: Dial,
    pub(super) addresses: io::Result<Vec<SocketAddr>>,
}

/// Asks for the addresses of a name, as long as it takes.
type Lookup = Arc<dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync>;
/// Who is to be dialled when the name of that peer is known.
type UnderWay = Arc<Mutex<BTreeMap<(u64, String), Dial>>>;

/// Asks the system, each name on a thread that ends with the answer.
pub(super) struct Resolver {
    answers: Arc<Mutex<Vec<Resolved>>>,
    /// Rung when an answer has come.
    bell: Arc<dyn Wake>,
    lookup: Lookup,
    under_way: UnderWay,
    /// Sessions with each peer that did not come up: the next one tries another address.
    failed: BTreeMap<u64, usize>,
}

impl Resolver {
    pub(super) fn new(bell: Arc<dyn Wake>) -> Self {
        Self::with(bell, Arc::new(all))
    }

    fn with(bell: Arc<dyn Wake>, lookup: Lookup) -> Self {
        let (answers, under_way) = (Arc::default(), UnderWay::default());
        Self { answers, bell, lookup, under_way, failed: BTreeMap::new() }
    }

    /// The names that were found, or not, since the last time.
    pub(super) fn take(&self) -> Vec<Resolved> {
        std::mem::take(&mut *lock(&self.answers))
    }

    /// Where to dial, at once if it is written in numbers; else the answer comes to
    /// [`Self::take`]. A name that is looked for already is not asked again: its answer is for
    /// who asked last.
    pub(super) fn resolve(&mut self, dial: Dial) -> Option<Resolved> {
        if let Ok(address) = dial.address.parse() {
            return Some(Resolved { dial, addresses: Ok(vec![address]) });
        }
        let key = (dial.peer, dial.address.clone());
        let mut under_way = lock(&self.under_way);
        if let Some(waiting) = under_way.get_mut(&key) {
            *waiting = dial;
            return None;
        }
        if under_way.len() >= LOOKUPS_MAX {
            let text = "too many names are looked for: the system does not answer";
            return Some(Resolved { dial, addresses: Err(io::Error::other(text)) });
        }
        let thread = thread::Builder::new().name("peers-name".to_owned()).spawn({
            let (key, lookup) = (key.clone(), Arc::clone(&self.lookup));
            let (under_way, answers) = (Arc::clone(&self.under_way), Arc::clone(&self.answers));
            let bell = Arc::clone(&self.bell);
            move || {
                let addresses = lookup(&key.1);
                let Some(dial) = lock(&under_way).remove(&key) else { return };
                lock(&answers).push(Resolved { dial, addresses });
                bell.wake();
            }
        });
        match thread {
            Ok(_) => {
                under_way.insert(key, dial);
                None
            }
            Err(error) => Some(Resolved { dial, addresses: Err(error) }),
        }
    }

    /// The address to try now, of those that a peer's name has.
    pub(super) fn choose(&self, peer: u64, addresses: &[SocketAddr]) -> Option<SocketAddr> {
        let failed = self.failed.get(&peer).copied().unwrap_or(0);
        addresses.get(failed % addresses.len().max(1)).copied()
    }

    /// A session with `peer` did not come up.
    pub(super) fn failed(&mut self, peer: u64) {
        let failed = self.failed.entry(peer).or_default();
        *failed = failed.wrapping_add(1);
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("failed", &self.failed).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The addresses of a name, as many as are tried; at least one.
pub(super) fn all(name: &str) -> io::Result<Vec<SocketAddr>> {
    let addresses: Vec<SocketAddr> = name.to_socket_addrs()?.take(ADDRESSES_MAX).collect();
    match addresses.is_empty() {
        true => Err(io::ErrorKind::AddrNotAvailable.into()),
        false => Ok(addresses),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use super::*;
    use crate::cluster::identity::ClusterId;
    use crate::cluster::members::Members;
    use crate::cluster::peering::{Me, Peering};
    use crate::cluster::{Local, MemberChange, Role};

    /// Dials of the nodes 2, 3, ... at these names.
    fn dials(names: &[&str]) -> Vec<Dial> {
        let mut members = Members::default();
        members.apply(
            1,
            &MemberChange::Found {
                cluster: ClusterId([1; 16]),
                generation: 1,
                node: 1,
                address: "one:1".into(),
                mqtt: vec![],
                key: [0; 32],
            },
        );
        for (node, name) in (2..).zip(names) {
            let change = MemberChange::Join {
                node,
                address: (*name).to_owned(),
                mqtt: vec![],
                role: Role::Log,
                key: [0; 32],
                token: node.to_le_bytes(),
                expires_s: 1,
                at_s: 0,
            };
            assert!(members.apply(node, &change));
        }
        let mut peering = Peering::new(Me {
            cluster: ClusterId([1; 16]),
            generation: 1,
            node: 1,
            boot: 1,
            version: String::new(),
            address: "one:1".into(),
        });
        let local = Local { members: Arc::new(members), ..Local::default() };
        peering.update(Duration::ZERO, local);
        peering.dial(Duration::ZERO)
    }

    struct Nobody;

    impl Wake for Nobody {
        fn wake(&self) {}
    }

    /// What has come, as soon as it is that many.
    fn resolved(resolver: &Resolver, count: usize) -> Vec<Resolved> {
        let mut resolved = Vec::new();
        for _ in 0..2_000 {
            resolved.extend(resolver.take());
            if resolved.len() >= count {
                return resolved;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("no answer came");
    }

    #[test]
    fn a_slow_name_keeps_nobody_else_waiting_and_is_asked_for_once() {
        let (release, held) = channel::<()>();
        let (asked, names) = channel();
        let (held, asked): (Mutex<Receiver<()>>, _) = (Mutex::new(held), Mutex::new(asked));
        let lookup: Lookup = Arc::new(move |name| {
            lock(&asked).send(name.to_owned()).unwrap();
            if name == "slow:1" {
                let _ = lock(&held).recv();
            }
            Ok(vec!["127.0.0.1:1".parse().unwrap()])
        });
        let mut resolver = Resolver::with(Arc::new(Nobody), lookup);
        let [slow, quick] = &dials(&["slow:1", "quick:1"])[..] else { panic!("two dials") };
        assert!(resolver.resolve(slow.clone()).is_none());
        assert!(resolver.resolve(quick.clone()).is_none());
        let first = resolved(&resolver, 1);
        assert_eq!((first.len(), &first[0].dial), (1, quick));
        // The session was given up, and there is another one.
        assert!(resolver.resolve(slow.clone()).is_none());
        drop(release);
        let late = resolved(&resolver, 1);
        assert_eq!((late.len(), &late[0].dial), (1, slow));
        let mut asked: Vec<String> = names.try_iter().collect();
        asked.sort_unstable();
        assert_eq!(asked, ["quick:1", "slow:1"]);
    }

    #[test]
    fn every_address_of_a_name_has_its_turn() {
        let mut resolver = Resolver::new(Arc::new(Nobody));
        let addresses: Vec<SocketAddr> =
            ["10.0.0.1:1", "10.0.0.2:1"].map(|text| text.parse().unwrap()).to_vec();
        let tried: Vec<_> = (0..3)
            .map(|_| {
                let tried = resolver.choose(2, &addresses);
                resolver.failed(2);
                tried
            })
            .collect();
        assert_eq!(tried, [Some(addresses[0]), Some(addresses[1]), Some(addresses[0])]);
        assert_eq!(resolver.choose(3, &addresses), Some(addresses[0]), "another peer's");
        assert_eq!(resolver.choose(3, &[]), None);
    }

    #[test]
    fn numbers_are_answered_at_once_and_names_end() {
        let mut resolver = Resolver::with(
            Arc::new(Nobody),
            Arc::new(|_| {
                loop {
                    thread::park()
                }
            }),
        );
        let [dial] = &dials(&["127.0.0.1:7000"])[..] else { panic!("one dial") };
        let Some(Resolved { addresses: Ok(addresses), .. }) = resolver.resolve(dial.clone()) else {
            panic!("it is a number")
        };
        assert_eq!(addresses, ["127.0.0.1:7000".parse().unwrap()]);
        for at in 0..LOOKUPS_MAX {
            let dial = Dial { address: format!("n{at}:1"), ..dial.clone() };
            assert!(resolver.resolve(dial).is_none());
        }
        let dial = Dial { address: "one-more:1".into(), ..dial.clone() };
        assert!(resolver.resolve(dial).is_some_and(|resolved| resolved.addresses.is_err()));
        assert!(all("127.0.0.1:1").is_ok_and(|addresses| addresses.len() == 1));
    }
}
