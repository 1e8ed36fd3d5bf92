//! Real sockets on loopback.

mod bounds;
mod files;
mod joining;
mod meeting;
mod strangers;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use raft::eraftpb::{Message, MessageType};

use super::*;
use crate::cluster::authority::{Authority, NodeKey, PublicKey};
use crate::cluster::exchange::{JoinAnswer, Local, PeerInput, Peers, Sent};
use crate::cluster::frame::{Decoder, Forward, Frame, Hello, Lane, Refusal};
use crate::cluster::identity::ClusterId;
use crate::cluster::members::{MemberChange, Members, Role};
use crate::wake::Wake;

const CLUSTER: ClusterId = ClusterId([0xAB; 16]);
/// Nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// The authority, made once for all tests.
fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| Authority::found(CLUSTER).unwrap())
}

fn now_s() -> u64 {
    let now = rustls::pki_types::UnixTime::now();
    now.as_secs()
}

/// The key of a node, always the same.
fn key(node: u64) -> &'static NodeKey {
    static KEYS: [OnceLock<NodeKey>; 8] = [const { OnceLock::new() }; 8];
    KEYS[usize::try_from(node).unwrap()].get_or_init(|| NodeKey::generate().unwrap())
}

fn public(key: &NodeKey) -> PublicKey {
    PublicKey::of_request(&key.request().unwrap()).unwrap()
}

fn credentials(authority: &Authority, node: u64) -> Credentials {
    credentials_of(authority, node, key(node))
}

fn credentials_of(authority: &Authority, node: u64, key: &NodeKey) -> Credentials {
    let public = public(key);
    Credentials {
        authority: authority.certificate().to_vec(),
        certificate: authority.issue(node, &public, now_s()).unwrap(),
        key: key.to_der(),
    }
}

/// The members 1, 2, ... at these addresses.
fn members(addresses: &[String]) -> Members {
    let mut members = Members::default();
    let found = MemberChange::Found {
        cluster: CLUSTER,
        generation: 1,
        node: 1,
        address: addresses[0].clone(),
        mqtt: vec![],
        key: public(key(1)).fingerprint,
    };
    assert!(members.apply(1, &found));
    for (node, address) in (2..).zip(&addresses[1..]) {
        let change = MemberChange::Join {
            node,
            address: address.clone(),
            mqtt: vec![],
            role: Role::Log,
            key: public(key(node)).fingerprint,
            token: node.to_le_bytes(),
            expires_s: 1,
            at_s: 0,
        };
        assert!(members.apply(node, &change));
    }
    members
}

/// What is to be done with the sockets, by the thread that has them.
type Order = Box<dyn FnOnce(&mut Turning) + Send>;

/// One end, with a thread that turns its sockets as that of a log does.
struct End {
    node: u64,
    boot: u128,
    orders: Option<Sender<Order>>,
    bell: Arc<dyn Wake>,
    come: Receiver<PeerInput>,
    /// What came and was put back, to be taken first.
    put_back: VecDeque<PeerInput>,
    thread: Option<JoinHandle<()>>,
}

/// What that thread has.
struct Turning {
    sockets: Sockets,
    /// The log takes nothing.
    is_full: bool,
}

impl End {
    fn start(
        node: u64,
        boot: u128,
        listener: TcpListener,
        security: Security,
        room: usize,
    ) -> Self {
        let address = listener.local_addr().unwrap().to_string();
        let version = "test".into();
        let me = Me { cluster: CLUSTER, generation: 1, node, boot, version, address };
        let options = PeersOptions { me, listener, security, inbox_bytes: room };
        let sockets = open(options).unwrap();
        let (bell, (orders, taken), (out, come)) = (sockets.bell(), channel(), channel());
        let turning = Turning { sockets, is_full: false };
        let thread = Some(thread::spawn(move || turning.run(&taken, &out)));
        Self { node, boot, orders: Some(orders), bell, come, put_back: VecDeque::new(), thread }
    }

    /// Has something done by the thread.
    fn order<T: Send + 'static>(
        &self,
        order: impl FnOnce(&mut Turning) -> T + Send + 'static,
    ) -> T {
        let (done, answer) = channel();
        let order = Box::new(move |turning: &mut Turning| done.send(order(turning)).unwrap());
        self.orders.as_ref().unwrap().send(order).unwrap();
        self.bell.wake();
        answer.recv_timeout(PATIENCE).unwrap()
    }

    fn update(&mut self, members: &Members) {
        let members = Arc::new(members.clone());
        let start = u64::try_from(self.boot).unwrap();
        let local = Local { members, start, ..Local::default() };
        self.order(move |turning| turning.sockets.update(&local));
    }

    fn send(&mut self, to: u64, frame: &Frame) -> Sent {
        let frame = frame.clone();
        self.order(move |turning| turning.sockets.send(to, &frame))
    }

    fn answer(&mut self, id: u64, answer: JoinAnswer) {
        self.order(move |turning| turning.sockets.answer(id, answer));
    }

    /// Whether the log has no room for what comes.
    fn set_full(&mut self, is_full: bool) {
        self.order(move |turning| turning.is_full = is_full);
    }

    /// The next thing that `wanted` takes; what comes before it is forgotten. Nothing is asked of the
    /// thread meanwhile: what does not wake it by itself does not come.
    fn wait<T>(&mut self, what: &str, mut wanted: impl FnMut(PeerInput) -> Option<T>) -> T {
        loop {
            let come = self.put_back.pop_front();
            let come = come.or_else(|| self.come.recv_timeout(PATIENCE).ok());
            let come = come.unwrap_or_else(|| panic!("node {}: {what} has not come", self.node));
            if let Some(found) = wanted(come) {
                return found;
            }
        }
    }

    fn connected(&mut self, wanted: u64) -> Hello {
        self.wait("a connection", |input| match input {
            PeerInput::Connected { peer, hello } if peer == wanted => Some(hello),
            _ => None,
        })
    }

    fn disconnected(&mut self, wanted: u64) {
        self.wait("the end of a connection", |input| match input {
            PeerInput::Disconnected { peer } if peer == wanted => Some(()),
            _ => None,
        });
    }

    fn frame(&mut self, wanted: u64) -> Frame {
        self.wait("a frame", |input| match input {
            PeerInput::Frame { from, frame } if from == wanted => Some(frame),
            _ => None,
        })
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.orders = None;
        self.bell.wake();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Turning {
    /// Until nobody gives orders any more.
    fn run(mut self, orders: &Receiver<Order>, out: &Sender<PeerInput>) {
        loop {
            self.sockets.wait(PATIENCE).unwrap();
            self.sockets.read();
            loop {
                match orders.try_recv() {
                    Ok(order) => order(&mut self),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return self.sockets.close().unwrap(),
                }
            }
            if !self.is_full {
                for input in self.sockets.drain() {
                    // Who does not listen any more is about to stop the thread.
                    let _ = out.send(input);
                }
            }
            self.sockets.flush();
        }
    }
}

fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

const ROOM: usize = 64 << 20;

/// As many nodes that know each other; with TLS or not.
fn cluster(nodes: u64, has_tls: bool) -> Vec<End> {
    let (listeners, addresses): (Vec<_>, Vec<_>) = (0..nodes).map(|_| listener()).unzip();
    let members = members(&addresses);
    let start = |(node, listener)| {
        let security = if has_tls { tls(node) } else { Security::Plain };
        let mut end = End::start(node, u128::from(node), listener, security, ROOM);
        end.update(&members);
        end
    };
    (1..).zip(listeners).map(start).collect()
}

fn tls(node: u64) -> Security {
    Security::Tls(Box::new(credentials(authority(), node)))
}

fn heartbeat(from: u64, to: u64, commit: u64) -> Frame {
    let mut message = Message::new();
    message.set_msg_type(MessageType::MsgHeartbeat);
    (message.from, message.to, message.term, message.commit) = (from, to, 1, commit);
    Frame::raft(message)
}

/// A batch of about `bytes` bytes that `node` built.
fn forward(node: u64, bytes: usize) -> Frame {
    use ledgermq_core::event::{BatchBuilder, Event};
    use ledgermq_core::identity::{ClientId, ProducerId};
    use ledgermq_core::offset::Offset;

    let mut events = BatchBuilder::new(crate::envelope::ENVELOPE_BYTES);
    let client = ClientId::from("client");
    for _ in 0..bytes / 8 {
        events.push(Some((&client, Offset::new(5, 0))), None, &Event::SessionExpired);
    }
    let mut batch = events.finish(Vec::new());
    crate::envelope::close(
        &mut batch,
        ProducerId { node, start: 1, local: 0 },
        1,
        ledgermq_core::offset::Timestamp::default(),
    );
    Frame::Forward(Forward { term: 1, batches: vec![batch.into()] })
}

/// A peer made of a bare socket.
struct Bare {
    socket: TcpStream,
    decoder: Decoder,
}

impl Bare {
    fn dial(address: &str) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, decoder: Decoder::new(None) }
    }

    fn send(&mut self, frame: &Frame) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes).unwrap();
        self.socket.write_all(&bytes).unwrap();
    }

    /// The next frame; none if the connection was closed.
    fn read(&mut self) -> Option<Frame> {
        read(&mut self.socket, &mut self.decoder)
    }

    fn refusal(&mut self) -> Refusal {
        match self.read() {
            Some(Frame::Refusal(refusal)) => {
                assert_eq!(self.read(), None, "it is closed behind it");
                *refusal
            }
            other => panic!("{other:?}"),
        }
    }
}

fn read(from: &mut impl Read, decoder: &mut Decoder) -> Option<Frame> {
    let mut buffer = [0; 4096];
    loop {
        if let Some((frame, _)) = decoder.next_frame().unwrap() {
            return Some(frame);
        }
        match from.read(&mut buffer) {
            Ok(0) => return None,
            Ok(bytes) => decoder.push(&buffer[..bytes]),
            Err(error) => {
                assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "nothing has come");
                return None;
            }
        }
    }
}

/// What node `node` says first, as its process `boot`, in its session `session`.
fn hello(node: u64, boot: u128, session: u64, lane: Lane) -> Hello {
    Hello {
        lane,
        cluster: CLUSTER,
        boot,
        session,
        generation: 1,
        node,
        start: u64::try_from(boot).unwrap(),
        last: (0, 0),
        commit: 0,
        first: 1,
        members_index: 1,
        version: "test".into(),
        address: String::new(),
    }
}

/// Node `node` as bare sockets that have greeted on all lanes.
fn bare_node(address: &str, node: u64, boot: u128) -> Vec<Bare> {
    let greet = |lane| {
        let mut bare = Bare::dial(address);
        bare.send(&Frame::Hello(Box::new(hello(node, boot, 1, lane))));
        bare.decoder.set_lane(lane);
        assert!(matches!(bare.read(), Some(Frame::Hello(_))));
        bare
    };
    Lane::ALL.into_iter().map(greet).collect()
}

/// A way to `target` that can be cut.
struct Proxy {
    address: String,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    fn new(target: String) -> Self {
        let (listener, address) = listener();
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let all = Arc::clone(&open);
        thread::spawn(move || {
            for near in listener.incoming() {
                let Ok(near) = near else { return };
                let Ok(far) = TcpStream::connect(&target) else { return };
                all.lock().unwrap().extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
                for (mut from, mut to) in
                    [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)]
                {
                    thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Self { address, open }
    }

    /// Cuts the connection that was made as the `number`th.
    fn cut(&self, number: usize) {
        let open = self.open.lock().unwrap();
        for socket in &open[2 * number..2 * number + 2] {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}
