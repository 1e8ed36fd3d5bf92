//! What may stand between a socket and MQTT, without I/O: the layers of a connection.
//!
//! ```text
//! socket --> [PROXY header] --> [TLS] --> [WebSocket] --> shard
//! socket <------ pending <----- [TLS] <-- [WebSocket] <-- shard's output
//! ```
//!
//! A plain connection has none of it. The worker gives `Layers::receive` what it read and gets
//! MQTT back; it asks `Layers::fill` what to write before the next bytes of the shard's output.
//! Nothing is queued here but what a layer itself has to say and what the socket did not take of
//! one write: the shard's output is the one queue.

pub mod proxy;
pub(crate) mod tls;
pub mod web_socket;

use std::io::IoSlice;
use std::net::SocketAddr;

use tls::{Tls, TlsError};
use web_socket::{CloseCode, End, WebSocket};

/// What TLS itself has to say beside that, at most: beyond it the peer asks without reading.
const PENDING_BYTES_MAX: usize = 256 << 10;
/// Output that is encrypted at a time: the rest stays in the shard until the socket took this.
const OUTPUT_BYTES_MAX: usize = 64 << 10;

/// The layers of one connection.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    proxy: Option<proxy::Reader>,
    tls: Option<Box<Tls>>,
    web_socket: Option<Box<WebSocket>>,
    pending: Vec<u8>,
    /// Bytes of `pending` that were sent.
    sent: usize,
    /// Nothing can be sent any more.
    is_broken: bool,
}

/// What came of bytes from the socket.
#[derive(Debug, Default)]
pub(crate) struct Received<'b> {
    /// MQTT.
    pub(crate) payload: &'b [u8],
    /// The address of the client, if it became known just now.
    pub(crate) peer: Option<SocketAddr>,
    /// Who the client is, if it became known just now.
    pub(crate) identity: Option<Box<str>>,
    /// Why nothing more will come, if so.
    pub(crate) ended: Option<Ended>,
}

/// How a connection ended below MQTT.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Ended {
    /// The peer took its leave.
    #[error("closed by the peer")]
    Closed,
    /// It came from elsewhere than the trusted proxies of its listener.
    #[error("not from a trusted proxy")]
    Untrusted,
    /// There is no header of the PROXY protocol.
    #[error("PROXY protocol: {0}")]
    Proxy(proxy::Malformed),
    /// TLS failed.
    #[error("TLS: {0}")]
    Tls(TlsError),
    /// The WebSocket was refused, or its rules were broken.
    #[error("WebSocket refused")]
    WebSocket,
}

/// What to write next.
#[derive(Debug)]
pub(crate) struct Filled<'a> {
    own: &'a [u8],
    output: &'a [u8],
    /// So many bytes of the output need no further writing.
    pub(crate) taken: usize,
}

impl Filled<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.output.is_empty()
    }

    pub(crate) fn slices(&self) -> [IoSlice<'_>; 2] {
        [IoSlice::new(self.own), IoSlice::new(self.output)]
    }
}

impl Layers {
    /// The layers of a connection, from the socket on.
    pub(crate) fn new(
        proxy: Option<proxy::Reader>,
        tls: Option<Tls>,
        web_socket: Option<WebSocket>,
    ) -> Self {
        let (tls, web_socket) = (tls.map(Box::new), web_socket.map(Box::new));
        Self { proxy, tls, web_socket, ..Self::default() }
    }

    /// Takes bytes from the socket; `plain` is room for what TLS makes of them.
    pub(crate) fn receive<'b>(
        &mut self,
        bytes: &'b mut [u8],
        plain: &'b mut Vec<u8>,
    ) -> Received<'b> {
        let mut received = Received::default();
        let bytes = match self.take_header(bytes, &mut received) {
            Some(from) if received.ended.is_none() => &mut bytes[from..],
            _ => return received,
        };
        plain.clear();
        let bytes = match &mut self.tls {
            None => bytes,
            Some(tls) => {
                match tls.receive(bytes, plain, &mut self.pending) {
                    Ok(progress) => {
                        received.identity = progress.identity;
                        received.ended = progress.is_closed.then_some(Ended::Closed);
                    }
                    Err(error) => received.ended = Some(Ended::Tls(error)),
                }
                if self.pending.len() > PENDING_BYTES_MAX {
                    received.ended = Some(Ended::Tls(TlsError::NotRead));
                }
                plain.as_mut_slice()
            }
        };
        received.payload = match &mut self.web_socket {
            None => bytes,
            Some(web_socket) => {
                let unframed = web_socket.receive(bytes);
                let ended = unframed.ended.map(|end| match end {
                    End::Closed => Ended::Closed,
                    End::Refused => Ended::WebSocket,
                });
                received.ended = received.ended.or(ended);
                &bytes[unframed.payload]
            }
        };
        received
    }

    /// Takes the PROXY header off the front, if one is expected; says where the rest begins, once
    /// the header has come.
    fn take_header(&mut self, bytes: &[u8], received: &mut Received<'_>) -> Option<usize> {
        let Some(reader) = &mut self.proxy else { return Some(0) };
        match reader.receive(bytes) {
            Ok(None) => None,
            Ok(Some((header, used))) => {
                received.peer = header.client;
                self.proxy = None;
                Some(used)
            }
            Err(error) => {
                received.ended = Some(Ended::Proxy(error));
                None
            }
        }
    }

    /// Whether all layers have done their duty, so that MQTT is spoken on the socket itself.
    pub(crate) fn is_transparent(&self) -> bool {
        self.proxy.is_none() && self.tls.is_none() && self.web_socket.is_none()
    }

    /// Whether nothing can be sent any more.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Whether there is something to be sent besides output.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty() || (self.can_send() && self.has_reply())
    }

    /// Whether the layers below WebSocket take what it has to say.
    fn can_send(&self) -> bool {
        self.tls.as_deref().is_none_or(Tls::is_open)
    }

    fn has_reply(&self) -> bool {
        self.web_socket.as_deref().is_some_and(|ws| ws.has_reply() && !ws.is_within_frame())
    }

    /// What to write next, given the shard's output. `spare` holds buffers that connections lend
    /// each other, so that an idle one keeps none.
    pub(crate) fn fill<'a>(&'a mut self, output: &'a [u8], spare: &mut Spare) -> Filled<'a> {
        let is_empty = self.pending.is_empty();
        if is_empty {
            std::mem::swap(&mut self.pending, &mut spare.pending);
        }
        let (part, taken) = match (&mut self.tls, &mut self.web_socket) {
            (None, Some(web_socket)) if is_empty || web_socket.is_within_frame() => {
                let part = web_socket.begin(output.len(), &mut self.pending);
                (part, if web_socket.is_open() { 0 } else { output.len() })
            }
            (None, None) if is_empty => (output.len(), 0),
            (Some(tls), web_socket) if is_empty => {
                let web_socket = web_socket.as_deref_mut();
                let taken = encrypt(tls, web_socket, output, &mut self.pending, &mut spare.framed);
                self.is_broken |= taken.is_err();
                (0, taken.unwrap_or(0))
            }
            _ => (0, 0),
        };
        Filled { own: &self.pending[self.sent..], output: &output[..part], taken }
    }

    /// So many bytes of what [`Layers::fill`] gave were written; says how many of them were output.
    pub(crate) fn wrote(&mut self, bytes: usize, spare: &mut Spare) -> usize {
        let own = bytes.min(self.pending.len() - self.sent);
        self.sent += own;
        if self.sent == self.pending.len() {
            self.sent = 0;
            self.pending.clear();
            let pending = std::mem::take(&mut self.pending);
            if spare.pending.capacity() == 0 {
                spare.pending = pending;
            }
        }
        if let (None, Some(web_socket)) = (&self.tls, &mut self.web_socket) {
            web_socket.sent(bytes - own);
        }
        bytes - own
    }

    /// The socket takes nothing now: what is pending is kept, and no more.
    pub(crate) fn blocked(&mut self) {
        self.pending.drain(..self.sent);
        self.pending.shrink_to_fit();
        self.sent = 0;
    }

    /// Takes leave: the connection is to be closed once what is pending is written.
    pub(crate) fn finish(&mut self) {
        if let Some(web_socket) = &mut self.web_socket {
            web_socket.close(Some(CloseCode::NORMAL));
        }
        let Some(tls) = &mut self.tls else { return };
        if let Some(web_socket) = &mut self.web_socket
            && tls.is_open()
        {
            let mut reply = Vec::new();
            web_socket.begin(0, &mut reply);
            self.is_broken |= tls.send(&reply, &mut self.pending).is_err();
        }
        tls.close(&mut self.pending);
    }
}

/// Buffers that the connections of a worker lend each other.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    /// What the connection that is written to sends besides output.
    pending: Vec<u8>,
    /// Its frames before they are encrypted.
    framed: Vec<u8>,
}

/// Encrypts the front of `output` into `out`, with `framed` as room for frames; says how much of it.
fn encrypt(
    tls: &mut Tls,
    web_socket: Option<&mut WebSocket>,
    output: &[u8],
    out: &mut Vec<u8>,
    framed: &mut Vec<u8>,
) -> Result<usize, TlsError> {
    // Output that comes before the handshakes are over can be told to nobody.
    if !tls.is_open() {
        return Ok(output.len());
    }
    let part = &output[..output.len().min(OUTPUT_BYTES_MAX)];
    let Some(web_socket) = web_socket else {
        tls.send(part, out)?;
        return Ok(part.len());
    };
    framed.clear();
    let part = &part[..web_socket.begin(part.len(), framed)];
    framed.extend_from_slice(part);
    web_socket.sent(part.len());
    tls.send(framed, out)?;
    Ok(if web_socket.is_open() { part.len() } else { output.len() })
}
