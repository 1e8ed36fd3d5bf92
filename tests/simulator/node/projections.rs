//! The projections' turns: what `projections/src/driver.rs` does, with answers that come late.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::Arc;

use ledgermq_core::access::RuleList;
use ledgermq_core::event::EventRef;
use ledgermq_core::offset::{Index, Offset, Timestamp};
use ledgermq_log::{
    AppendError, Class, CommittedBatch, Derivation, Incoming, Log, StateItem, StateTail, Ticket,
};
use ledgermq_projections::checkpoint::{ImportError, MemoryStore, Store, export, import};
use ledgermq_projections::projector::{Events, Options as ProjectorOptions, Output, Projector};
use ledgermq_projections::reader::Reader;
use ledgermq_projections::views::Limits;
use ledgermq_projections::views::due::Due;
use ledgermq_projections::views::retained::RetainedMessage;

use crate::node::Outside;
use crate::node::log::NoWake;
use crate::node::worker::Worker;

pub(crate) struct Projections {
    projector: Projector,
    pub(crate) reader: Reader,
    pub(crate) store: MemoryStore,
    tail: StateTail,
    /// What it asked for and got no answer to.
    asked: VecDeque<Output>,
    /// The append on its way.
    appending: Option<Ticket>,
    /// What was derived, in which term, and is on its way.
    deriving: Option<(u64, Derivation)>,
    /// The last snapshot that came.
    incoming: Option<Incoming>,
    /// Batches behind a jump of the log, until the views have jumped.
    ahead: Vec<Arc<CommittedBatch>>,
    limits: Limits,
    started: Timestamp,
}

impl Projections {
    pub(crate) fn open(
        mut store: MemoryStore,
        log: &Log,
        o: &mut Outside<'_>,
    ) -> Result<Self, String> {
        store.set_failing(false);
        store.set_kept_hidden(false);
        let options = ProjectorOptions {
            node: o.name.id,
            start: log.start(),
            limits: o.options.queued,
            checkpoint_interval: o.options.checkpoint_interval,
        };
        let status = log.status();
        let projector = Projector::open(options, &mut store, status.first_index, status.last_index)
            .map_err(|error| format!("the projections do not open: {error}"))?;
        let tail = log.tail_state(projector.next_index(), NoWake::shared());
        let reader = projector.reader();
        let asked = VecDeque::new();
        let started = o.now;
        Ok(Self {
            projector,
            reader,
            store,
            tail,
            asked,
            appending: None,
            deriving: None,
            incoming: None,
            ahead: Vec::new(),
            limits: o.options.queued,
            started,
        })
    }

    pub(crate) fn set_rules(&mut self, rules: Option<RuleList>) {
        self.projector.set_rules(rules);
    }

    /// Unless the log has rules.
    pub(crate) fn offer_rules(&mut self, rules: Option<RuleList>) {
        self.projector.offer_rules(rules);
    }

    pub(crate) fn turn(
        &mut self,
        log: &Log,
        workers: &mut [Worker],
        o: &mut Outside<'_>,
    ) -> Result<(), String> {
        let now = self.clock(o);
        if self.projector.start() != log.incarnation() {
            self.projector.renew(log.incarnation());
        }
        let (mut notices, mut out) = (Vec::new(), Vec::new());
        let incoming = log.incoming();
        let shown = incoming.as_ref().map(|it| (it.index, it.checksum));
        self.projector.incoming(now, shown, &mut out);
        if incoming.is_some() {
            self.incoming = incoming;
        }
        let batches = self.take_batches(o)?;
        self.projector.cut_wanted(log.cut_wanted(), &mut out);
        self.projector.set_lead(log.leading(), self.tail.position() - 1);
        self.projector.purge_wanted(log.purge_wanted());
        self.projector
            .turn(now, log.time(), &batches, &mut notices, &mut out)
            .map_err(|broken| format!("the views broke: {broken}"))?;
        for notice in notices {
            let producer = notice.producer();
            if (producer.node, producer.start) != (log.node(), log.start()) {
                continue;
            }
            if let Some(worker) = workers.iter_mut().find(|worker| worker.is(producer.local)) {
                worker.inbox.push_back(notice);
            }
        }
        self.perform(log, out, o);
        Ok(())
    }

    /// The next batches; none while the views have not followed a jump of the log.
    fn take_batches(&mut self, o: &mut Outside<'_>) -> Result<Vec<Arc<CommittedBatch>>, String> {
        if self.projector.is_installing() {
            return Ok(Vec::new());
        }
        let mut batches = std::mem::take(&mut self.ahead);
        let bytes = if o.rng.permille(300) { 1 } else { 256 << 10 };
        let mut items = Vec::new();
        let taken = self.tail.take(bytes, &mut items);
        taken.map_err(|error| format!("the projections cannot read on: {error}"))?;
        for item in items {
            match item {
                StateItem::Batch(batch) if self.projector.is_installing() => self.ahead.push(batch),
                StateItem::Batch(batch) => batches.push(batch),
                StateItem::Snapshot { index } => {
                    o.say(format_args!("the log jumps to {index}"));
                    batches.clear();
                    self.projector.jumped(index).map_err(|error| error.to_string())?;
                }
            }
        }
        Ok(batches)
    }

    /// Answers what the projector asked for.
    pub(crate) fn answer(&mut self, log: &Log, o: &mut Outside<'_>) -> Result<(), String> {
        let now = self.clock(o);
        self.look_for_receipt(now)?;
        let Some(asked) = self.asked.pop_front() else { return Ok(()) };
        let mut out = Vec::new();
        match asked {
            Output::Save(changes) if !log.want_mark(changes.applied) => {
                self.asked.push_front(Output::Save(changes));
            }
            Output::Save(changes) => {
                let result = self.store.commit(&changes);
                self.projector.saved(now, result, &mut out);
            }
            Output::Keep { upto, messages } => {
                let is_kept = self.keep(log, upto, &messages);
                self.projector.kept(now, is_kept.then_some(upto), &messages, &mut out);
            }
            Output::Cut(index) => self.cut(log, index, o),
            Output::Import { index, checksum } => self.import(index, checksum, &mut out, o),
            Output::TakePlace => {
                let result = self.store.take_place();
                o.say(format_args!("the snapshot is put in place: {}", result.is_ok()));
                o.oracle.snapshots += u64::from(result.is_ok());
                let taken = self.projector.took_place(now, result, &mut out);
                taken.map_err(|error| format!("{error}: {:?}", error.source()))?;
            }
            Output::Discard => {
                // What cannot be deleted is replaced by the next.
                let _ = self.store.beside().discard();
            }
            _ => {}
        }
        self.perform(log, out, o);
        Ok(())
    }

    /// What `driver.rs` does when it is stopped: it waits for the save on its way and writes the last
    /// checkpoint. Where the store takes it, the restart has nothing to fold.
    pub(crate) fn save_last(&mut self, log: &Log, o: &mut Outside<'_>) -> Result<(), String> {
        let now = self.clock(o);
        let mut out = Vec::new();
        let mut did_fail = false;
        while let Some(asked) = self.asked.pop_front() {
            if let Output::Save(changes) = asked {
                let result = self.store.commit(&changes);
                did_fail |= result.is_err();
                self.projector.saved(now, result, &mut out);
            }
        }
        // Changes that failed before are tried first, then those of a cut, then the rest.
        for _ in 0..3 {
            let Some(changes) = self.projector.last_checkpoint() else { break };
            let result = self.store.commit(&changes);
            if result.is_err() {
                did_fail = true;
                break;
            }
            self.projector.saved(now, result, &mut out);
        }
        self.perform(log, out, o);
        let (applied, saved) = (self.reader.applied(), self.reader.checkpointed());
        if !did_fail && saved < applied && !self.is_installing() {
            return Err(format!("the last checkpoint ends at {saved}, the views at {applied}"));
        }
        Ok(())
    }

    fn perform(&mut self, log: &Log, out: Vec<Output>, o: &mut Outside<'_>) {
        let now = self.clock(o);
        for output in out {
            match output {
                Output::Append(events) => {
                    let mut batch = log.builder();
                    events.write(&mut batch);
                    match log.submit(Class::Progress, batch) {
                        Ok(ticket) => self.appending = Some(ticket),
                        Err(_) => self.projector.appended(now, None),
                    }
                }
                Output::Derive { term, events } => {
                    self.note_wills(&events, o);
                    let mut batch = log.builder();
                    events.write(&mut batch);
                    self.deriving = Some((term, log.derive(term, batch)));
                }
                Output::Save(_)
                | Output::Keep { .. }
                | Output::Cut(_)
                | Output::Import { .. }
                | Output::TakePlace
                | Output::Discard => self.asked.push_back(output),
                Output::Checkpointed(index) => log.checkpointed(index),
                Output::PurgeAllowed(index) => log.purge_allowed(index),
                Output::CutFailed(index) => {
                    o.say(format_args!("the views are beyond the cut at {index}"));
                    log.refuse_cut(index, "the views are beyond it");
                }
                Output::Imported { index, result } => {
                    o.say(format_args!("the snapshot at {index} was taken in: {result:?}"));
                    log.imported(index, result);
                }
            }
        }
    }

    /// Writes down by which access rules wills were found due.
    fn note_wills(&self, events: &Events, o: &mut Outside<'_>) {
        let Events::Due(due) = events else { return };
        let known = o.oracle.access.before(self.projector.next_index());
        for event in due {
            if let Due::Will { cause, .. } = event {
                o.oracle.wills.derive(*cause, known);
            }
        }
    }

    /// Writes the views out for other nodes. Some writes fail, and the log wants another cut.
    fn cut(&mut self, log: &Log, index: Index, o: &mut Outside<'_>) {
        let store = &mut self.store;
        let does_fail = o.rng.permille(100);
        let mut write = || -> Result<(), Box<dyn Error>> {
            let mut writer = log.begin_cut(index, store.bytes()?)?;
            let meta = export(store, index, &mut writer)?;
            if does_fail {
                return Err("told to fail".into());
            }
            Ok(writer.finish(meta.checksum)?)
        };
        let result = write().map_err(|error| error.to_string());
        o.say(format_args!("the views are cut at {index}: {result:?}"));
    }

    /// Takes the snapshot in: often in two steps, so that a crash leaves half of it.
    fn import(&mut self, index: Index, checksum: u64, out: &mut Vec<Output>, o: &mut Outside<'_>) {
        if o.rng.permille(300) {
            let _ = self.store.beside().begin();
            return self.asked.push_front(Output::Import { index, checksum });
        }
        let Some(incoming) = &self.incoming else { return };
        let opened = incoming.open().map_err(ImportError::Read);
        let result = opened.and_then(|mut from| {
            import(&mut self.store, &mut *from, self.limits, index, checksum).map(Box::new)
        });
        let now = self.clock(o);
        self.projector.imported(now, result, out);
    }

    fn look_for_receipt(&mut self, now: Timestamp) -> Result<(), String> {
        if let Some((term, derivation)) = &self.deriving
            && let Some(outcome) = derivation.outcome()
        {
            self.projector.derived(*term, outcome);
            self.deriving = None;
        }
        let Some(ticket) = &self.appending else { return Ok(()) };
        let index = match ticket.try_receipt() {
            Ok(None) => return Ok(()),
            Ok(Some(receipt)) => Some(receipt.index),
            Err(AppendError::Refused { .. }) => None,
            Err(error) => return Err(error.to_string()),
        };
        self.appending = None;
        self.projector.appended(now, index);
        Ok(())
    }

    /// Whether everything committed is applied.
    pub(crate) fn is_at_end(&self, commit: Index) -> bool {
        self.tail.position() > commit && !self.projector.is_installing()
    }

    /// Whether the log has jumped and the views have not.
    pub(crate) fn is_installing(&self) -> bool {
        self.projector.is_installing()
    }

    /// Whether a snapshot is being taken in, or put in place.
    pub(crate) fn is_amid_snapshot(&self) -> bool {
        let is_of_it = |asked: &Output| matches!(asked, Output::Import { .. } | Output::TakePlace);
        self.is_installing() || self.asked.iter().any(is_of_it)
    }

    /// An even clock from an arbitrary beginning.
    fn clock(&self, o: &Outside<'_>) -> Timestamp {
        Timestamp(0).plus(o.now.since(self.started))
    }

    fn keep(&mut self, log: &Log, upto: Index, offsets: &[Offset]) -> bool {
        let mut copies = Vec::new();
        for offset in offsets {
            let Ok(Some(batch)) = log.read(offset.index) else { continue };
            let body = batch.batch();
            let ordinal = usize::try_from(offset.ordinal).expect("it is a number of a record");
            let Some(Ok(record)) = body.records().nth(ordinal) else { continue };
            if let Ok(EventRef::MessagePublished(message)) = record.event() {
                let session = record
                    .session
                    .and_then(|slot| body.sessions().nth(usize::from(slot)).and_then(Result::ok));
                let publisher = session.map(|session| session.client);
                copies.push(RetainedMessage::new(
                    &message,
                    record.key_id,
                    publisher,
                    batch.time,
                    *offset,
                ));
            }
        }
        self.store.keep(upto, &copies).is_ok()
    }
}
