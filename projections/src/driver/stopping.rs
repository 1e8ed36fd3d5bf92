//! The last things of a stop in order.

use ledgermq_core::offset::Timestamp;

use crate::checkpoint::StoreError;
use crate::driver::helpers::{Answer, Job};
use crate::driver::{HELPER_POLL, Running, report};

impl Running {
    /// The checkpoint of a clean stop: the restart folds nothing.
    pub(super) fn save_last(&mut self) {
        let mut out = Vec::new();
        while self.projector.is_save_running() {
            let Some(result) = self.wait_saved() else { return };
            self.projector.saved(Timestamp(0), result, &mut out);
        }
        // Changes that failed before are tried first, then those of a cut, then the rest.
        for _ in 0..3 {
            let Some(changes) = self.projector.last_checkpoint() else { break };
            self.helpers.store(Job::Save(changes));
            let Some(result) = self.wait_saved() else { return };
            if result.is_err() {
                break;
            }
            self.projector.saved(Timestamp(0), result, &mut out);
        }
        self.perform(&mut out);
    }

    /// The answer to the save that is running; none if there will be none.
    fn wait_saved(&self) -> Option<Result<(), StoreError>> {
        loop {
            match self.answers.recv_timeout(HELPER_POLL) {
                Ok(Answer::Saved(result)) => {
                    report(&result);
                    return Some(result);
                }
                Ok(_) => {}
                Err(_) if self.helpers.has_ended() => return None,
                Err(_) => {}
            }
        }
    }
}
