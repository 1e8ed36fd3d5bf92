//! Names of nodes become addresses on a thread of their own: asking the system may take seconds.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::{io, thread};

use super::link::{Shared, lock};
use crate::cluster::peering::Dial;

/// Questions that may wait.
const WAITING_MAX: usize = 64;

/// What became of a name.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) dial: Dial,
    pub(super) address: io::Result<SocketAddr>,
}

/// Asks the system. The thread begins with the first name that is no number.
#[derive(Debug)]
pub(super) struct Resolver {
    shared: Arc<Shared>,
    questions: Option<SyncSender<Dial>>,
}

impl Resolver {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, questions: None }
    }

    /// Where to dial, at once if it is written in numbers; else the answer comes to
    /// [`Shared::resolved`]. If too many wait it never comes, and the session is given up in time.
    pub(super) fn resolve(&mut self, dial: Dial) -> Option<Resolved> {
        if let Ok(address) = dial.address.parse() {
            return Some(Resolved { dial, address: Ok(address) });
        }
        if self.questions.is_none() {
            let (questions, waiting) = sync_channel(WAITING_MAX);
            let shared = Arc::clone(&self.shared);
            let thread = thread::Builder::new().name("peers-names".to_owned());
            match thread.spawn(move || answer(&waiting, &shared)) {
                Ok(_) => self.questions = Some(questions),
                Err(error) => return Some(Resolved { dial, address: Err(error) }),
            }
        }
        let questions = self.questions.as_ref()?;
        let _ = questions.try_send(dial);
        None
    }
}

/// Until nobody can ask any more.
fn answer(questions: &Receiver<Dial>, shared: &Shared) {
    while let Ok(dial) = questions.recv() {
        let address = first(&dial.address);
        lock(&shared.resolved).push(Resolved { dial, address });
        shared.wake();
    }
}

/// The first address of a name.
pub(super) fn first(name: &str) -> io::Result<SocketAddr> {
    let mut addresses = name.to_socket_addrs()?;
    addresses.next().ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
}
