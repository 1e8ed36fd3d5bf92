//! What must hold of any bytes. A check that fails panics.

use ledgermq_core::access::{self, Action, Identity, Rules};
use ledgermq_core::codec::{PACKET_BYTES_MAX, decode, encode};
use ledgermq_core::event::batch::{Batch, BatchSession, Record};
use ledgermq_core::event::{BatchBuilder, EventRef};
use ledgermq_core::identity::ClientId;
use ledgermq_core::offset::{Offset, Timestamp};
use ledgermq_core::packet::ProtocolVersion;
use ledgermq_core::topic::tree::FilterTree;
use ledgermq_core::topic::{TopicFilter, check_name};

/// Bytes as they come from a connection, in both versions.
pub fn packet_decode(data: &[u8]) {
    for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
        packets(data, version);
    }
}

/// Every packet is encoded to bytes that mean the same and are the same from then on; what was cut
/// is never a packet.
fn packets(data: &[u8], version: ProtocolVersion) {
    let mut rest = data;
    while let Ok(Some((packet, length))) = decode(rest, version, PACKET_BYTES_MAX) {
        let part = decode(&rest[..length - 1], version, PACKET_BYTES_MAX);
        assert_eq!(part, Ok(None), "a part of {packet:?}");
        let mut bytes = Vec::new();
        encode(&packet, version, &mut bytes).expect("what was decoded can be encoded");
        let (again, again_length) = decode(&bytes, version, PACKET_BYTES_MAX)
            .expect("what was encoded can be decoded")
            .expect("a whole packet");
        assert_eq!(again, packet);
        assert_eq!(again_length, bytes.len());
        let mut once_more = Vec::new();
        encode(&again, version, &mut once_more).expect("what was decoded can be encoded");
        assert_eq!(once_more, bytes);
        rest = &rest[length..];
    }
}

/// Client, user and topic on a line each, then an `acl_file`: an error names a line of it; what may
/// be subscribed to as a Topic Name may be received, and the reverse; nobody without rules may less.
pub fn acl_file(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let mut lines = text.splitn(4, '\n');
    let mut next = || lines.next().unwrap_or_default();
    let (client, user, topic, acl) = (next(), next(), next(), next());
    let list = match access::parse(acl) {
        Ok(list) => list,
        Err(error) => {
            assert!((1..=acl.lines().count()).contains(&error.line), "{error}");
            return;
        }
    };
    let rules = Rules::new(Some(&list));
    for username in [None, Some(user)] {
        let who = Identity { client, username };
        if check_name(topic).is_ok() && !topic.starts_with("$share") {
            let receives = rules.may(&who, Action::Receive, topic);
            assert_eq!(rules.may(&who, Action::Subscribe, topic), receives);
            let _ = rules.may(&who, Action::Publish, topic);
            assert!(!receives || rules.may(&who, Action::Subscribe, "#") || topic.starts_with('$'));
        }
        if TopicFilter::new(topic).is_ok() {
            let _ = rules.may(&who, Action::Subscribe, topic);
        }
    }
}

/// Bytes as they come from a disk or a peer, and as records of a batch that is right otherwise.
pub fn event_batch(data: &[u8]) {
    batch(data);
    let mut framed = data.to_vec();
    framed.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_le_bytes());
    framed.extend(4_u32.to_le_bytes());
    framed.extend([0; 12]);
    framed.extend([1, 0, 0, 0]);
    batch(&framed);
}

/// Events are written again to records of the same meaning and canonical form.
fn batch(data: &[u8]) {
    let Ok(batch) = Batch::parse(data) else { return };
    let sessions: Vec<_> = batch.sessions().take(1000).collect();
    for fence in batch.fences() {
        let _ = batch.record_at(fence).and_then(|record| record.event());
    }
    for record in batch.records().filter_map(Result::ok) {
        let session = record.session.and_then(|number| sessions.get(usize::from(number)));
        let session = session.and_then(|session| session.ok());
        let _ = canonical(&batch, &record, session);
        let Ok(event) = record.event() else { continue };
        let (bytes, first) = written(&event, session, record.cause);
        let again = Batch::parse(&bytes).expect("what was built can be parsed");
        let record = again.records().next().expect("one record").expect("a whole record");
        assert_eq!(record.event().as_ref(), Ok(&event));
        assert_eq!(canonical(&again, &record, session), first);
    }
}

/// The event in a batch of its own, behind another record, and its canonical form.
fn written(
    event: &EventRef<'_>,
    session: Option<BatchSession<'_>>,
    cause: Option<Offset>,
) -> (Vec<u8>, Vec<u8>) {
    let client = session.map(|session| (ClientId::from(session.client), session.epoch));
    let client = client.as_ref().map(|(client, epoch)| (client, *epoch));
    let mut builder = BatchBuilder::new(0);
    let append = |builder: &mut BatchBuilder| match event {
        EventRef::MessagePublished(message) => builder.publish(client, cause, message),
        EventRef::Other(event) => builder.push(client, cause, event),
    };
    append(&mut builder);
    let bytes = builder.finish(Vec::new());
    let other = ClientId::from("another");
    let before = ledgermq_core::event::Event::SessionExpired;
    builder.push(Some((&other, Offset::new(u64::MAX, u32::MAX))), None, &before);
    append(&mut builder);
    let behind = builder.finish(Vec::new());
    let batch = Batch::parse(&behind).expect("what was built can be parsed");
    let record = batch.records().nth(1).expect("two records").expect("a whole record");
    let form = canonical(&batch, &record, session);
    (bytes, form)
}

fn canonical(batch: &Batch<'_>, record: &Record<'_>, session: Option<BatchSession<'_>>) -> Vec<u8> {
    let mut out = Vec::new();
    record.canonical(batch.namespace(), Offset::new(1, 2), Timestamp(3), session, &mut out);
    out
}

/// Lines of text: a topic and filters.
pub fn topic_filter(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let mut lines = text.lines();
    let topic = lines.next().unwrap_or_default();
    if check_name(topic).is_err() {
        let _ = lines.map(TopicFilter::new).count();
        return;
    }
    let mut tree = FilterTree::default();
    let mut expected = Vec::new();
    let mut filters = Vec::new();
    for (number, line) in lines.take(50).enumerate() {
        let Ok(filter) = TopicFilter::new(line) else { continue };
        assert_eq!(filter.matches(topic), naive(filter.pattern(), topic), "{filter} {topic}");
        if filter.matches(topic) {
            expected.push(number);
        }
        tree.insert(&filter, number, number);
        filters.push((filter, number));
    }
    let mut found = Vec::new();
    tree.for_each_match(topic, |key, _| found.push(*key));
    found.sort_unstable();
    assert_eq!(found, expected);
    for (filter, number) in filters {
        assert_eq!(tree.remove(&filter, &number), Some(number));
    }
    assert!(tree.is_empty());
    tree.for_each_match(topic, |_, _| panic!("nothing is left"));
}

/// Section 4.7 of the specification, word by word.
fn naive(filter: &str, topic: &str) -> bool {
    fn levels(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) | ([], []) => true,
            ([wanted, filter @ ..], [level, topic @ ..]) => {
                (*wanted == "+" || wanted == level) && levels(filter, topic)
            }
            (_, []) | ([], _) => false,
        }
    }
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let filter: Vec<_> = filter.split('/').collect();
    let topic: Vec<_> = topic.split('/').collect();
    levels(&filter, &topic)
}
