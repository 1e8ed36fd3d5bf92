//! What operators ask of the cluster, by any of its nodes.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::cluster::{Answer, Command, Members};
use crate::log::Log;
use crate::shared::lock;
use crate::status::ClusterStatus;

/// Commands of this node that may wait for their answers.
pub(crate) const COMMANDS_MAX: usize = 64;

/// A command on its way.
#[derive(Debug)]
pub struct Commanded {
    place: Arc<Place>,
}

/// Where its answer comes.
#[derive(Debug, Default)]
pub(crate) struct Place {
    answer: Mutex<Option<Answer>>,
    given: Condvar,
}

impl Place {
    pub(crate) fn give(&self, answer: Answer) {
        lock(&self.answer).get_or_insert(answer);
        self.given.notify_all();
    }
}

impl Commanded {
    /// The answer, if it is there. It comes within about half a minute.
    #[must_use]
    pub fn answer(&self) -> Option<Answer> {
        lock(&self.place.answer).clone()
    }

    /// Waits for the answer. Never to be called by the thread that turns the log.
    #[must_use]
    pub fn wait(self) -> Answer {
        let mut answer = lock(&self.place.answer);
        loop {
            if let Some(answer) = &*answer {
                return answer.clone();
            }
            answer = self.place.given.wait(answer).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Commands that the log thread has not taken yet.
#[derive(Default)]
pub(crate) struct Commanding {
    pub(crate) waiting: VecDeque<(Command, Arc<Place>)>,
    is_stopped: bool,
}

impl Commanding {
    /// The log has stopped: nothing is done any more.
    pub(crate) fn stop(&mut self) {
        self.is_stopped = true;
        for (_, place) in self.waiting.drain(..) {
            place.give(refused("the log of this node has stopped"));
        }
    }
}

pub(crate) fn refused(text: impl Into<String>) -> Answer {
    Answer::Refused { text: text.into() }
}

impl Log {
    /// Asks the leader, wherever it is, to do this. Without waiting.
    #[must_use]
    pub fn command(&self, command: Command) -> Commanded {
        let place = Arc::new(Place::default());
        let mut commanding = lock(&self.shared().commanding);
        if commanding.is_stopped {
            place.give(refused("the log of this node has stopped"));
        } else if commanding.waiting.len() >= COMMANDS_MAX {
            place.give(refused("too many commands are waiting: try again in a moment"));
        } else {
            commanding.waiting.push_back((command, Arc::clone(&place)));
            drop(commanding);
            self.shared().wake_thread();
        }
        Commanded { place }
    }

    /// Hands leadership over, if it is here, and does not want it back: before the node stops.
    pub fn hand_over(&self) {
        *lock(&self.shared().is_handing_over) = true;
        self.shared().wake_thread();
    }

    /// What this node knows of the cluster.
    #[must_use]
    pub fn cluster_status(&self) -> ClusterStatus {
        lock(&self.shared().cluster).clone()
    }

    /// Who the nodes of the cluster are, as this node has applied it.
    #[must_use]
    pub fn members(&self) -> Arc<Members> {
        Arc::clone(&lock(&self.shared().members))
    }
}
