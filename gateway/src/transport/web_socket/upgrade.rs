//! The HTTP request that turns a connection into a WebSocket, and its answer.

use crate::transport::web_socket::origins::Origins;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// The path at which MQTT is spoken.
pub const PATH: &str = "/mqtt";
/// The subprotocol that a client must offer. `[MQTT-6.0.0-3]`
pub const SUBPROTOCOL: &str = "mqtt";
/// Bytes of a request's head on a WebSocket listener, at most: what a slow client can make us keep.
pub const HEAD_BYTES_MAX: usize = 3 << 10;
/// Lines of a request's head, at most.
const HEADERS_MAX: usize = 64;
/// What RFC 6455 has both sides append to the key.
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Why a request does not become a WebSocket, as HTTP says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Status code.
    pub status: u16,
    /// What is wrong and what to do, for people.
    pub text: &'static str,
}

impl Refusal {
    const fn new(status: u16, text: &'static str) -> Self {
        Self { status, text }
    }

    /// Header fields that belong to the answer, beside those of its text.
    #[must_use]
    pub fn headers(&self) -> &'static [(&'static str, &'static str)] {
        match self.status {
            405 => &[("allow", "GET")],
            426 => &[("upgrade", "websocket"), ("sec-websocket-version", "13")],
            _ => &[],
        }
    }

    fn phrase(&self) -> &'static str {
        match self.status {
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            426 => "Upgrade Required",
            431 => "Request Header Fields Too Large",
            _ => "Bad Request",
        }
    }
}

/// Judges a request for [`PATH`] by its method and header fields (names in any case), and by the
/// page that it comes from, if any; answers with the value of `Sec-WebSocket-Accept`.
///
/// Extensions are not looked at: none is ever agreed on, compression neither.
///
/// # Errors
///
/// What the client is to be told instead.
pub fn judge<'a>(
    method: &str,
    origins: &Origins,
    fields: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> Result<String, Refusal> {
    let mut seen = Seen::default();
    for (name, value) in fields {
        seen.see(name, value);
    }
    if method != "GET" {
        return Err(Refusal::new(405, "a WebSocket is asked for with GET"));
    }
    if !(seen.upgrade && seen.connection) {
        return Err(Refusal::new(
            426,
            "MQTT is spoken here over WebSocket: connect with an MQTT client to ws://HOST:PORT/mqtt",
        ));
    }
    if !seen.version {
        return Err(Refusal::new(426, "Sec-WebSocket-Version must be 13"));
    }
    if seen.has_body {
        return Err(Refusal::new(400, "a request for a WebSocket has no body"));
    }
    if seen.hosts != 1 {
        return Err(Refusal::new(400, "there must be one Host"));
    }
    if !seen.subprotocol {
        return Err(Refusal::new(400, "Sec-WebSocket-Protocol must offer mqtt"));
    }
    if !seen.origins.iter().all(|origin| origins.admit(origin)) {
        return Err(Refusal::new(
            403,
            "pages from elsewhere may not connect from this machine; if yours may, name its origin in \
             gateway.websocket_origins",
        ));
    }
    match (seen.key, seen.keys) {
        (Some(key), 1) => Ok(accept(key)),
        _ => Err(Refusal::new(400, "there must be one Sec-WebSocket-Key of 16 bytes in base64")),
    }
}

/// What was seen of a request's header fields.
#[derive(Default)]
struct Seen<'a> {
    upgrade: bool,
    connection: bool,
    version: bool,
    subprotocol: bool,
    has_body: bool,
    hosts: usize,
    keys: usize,
    key: Option<&'a [u8]>,
    origins: Vec<&'a [u8]>,
}

impl<'a> Seen<'a> {
    fn see(&mut self, name: &str, value: &'a [u8]) {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        let lists = |token: &str| {
            let tokens = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            tokens.into_iter().any(|found| found.eq_ignore_ascii_case(token.as_bytes()))
        };
        if is("upgrade") {
            self.upgrade |= lists("websocket");
        } else if is("connection") {
            self.connection |= lists("upgrade");
        } else if is("sec-websocket-version") {
            self.version |= value.trim_ascii() == b"13";
        } else if is("sec-websocket-protocol") {
            let mut offered = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            self.subprotocol |= offered.any(|name| name == SUBPROTOCOL.as_bytes());
        } else if is("sec-websocket-key") {
            let key = value.trim_ascii();
            let bytes = BASE64_STANDARD.decode(key);
            self.keys += 1;
            self.key = bytes.is_ok_and(|bytes| bytes.len() == 16).then_some(key);
        } else if is("origin") {
            self.origins.push(value);
        } else if is("host") {
            self.hosts += 1;
        } else if is("content-length") {
            self.has_body |= value.trim_ascii() != b"0";
        } else if is("transfer-encoding") {
            self.has_body = true;
        }
    }
}

fn accept(key: &[u8]) -> String {
    let text = [key, KEY_SUFFIX].concat();
    BASE64_STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text))
}

/// What the head of a request on a WebSocket listener came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// It has not come whole.
    Partial,
    /// It has that many bytes, and this is the answer.
    Whole(usize, Result<String, Refusal>),
}

/// Looks for a whole head at the front of `bytes` and judges it.
pub(super) fn read(bytes: &[u8], origins: &Origins) -> Head {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let refused = |status, text| Head::Whole(bytes.len(), Err(Refusal::new(status, text)));
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= HEAD_BYTES_MAX => length,
        Ok(httparse::Status::Partial) if bytes.len() <= HEAD_BYTES_MAX => return Head::Partial,
        Ok(_) => {
            return refused(
                431,
                "the head of the request is too long (3 KiB; the HTTP port takes more)",
            );
        }
        Err(httparse::Error::TooManyHeaders) => return refused(431, "too many header fields"),
        Err(_) => return refused(400, "this is no HTTP request"),
    };
    if request.version != Some(1) {
        return refused(400, "HTTP/1.1 is needed for a WebSocket");
    }
    let path = request.path.unwrap_or_default().split('?').next();
    if path != Some(PATH) {
        return refused(404, "MQTT over WebSocket is at /mqtt");
    }
    let fields = request.headers.iter().map(|field| (field.name, field.value));
    Head::Whole(length, judge(request.method.unwrap_or_default(), origins, fields))
}

/// The answer that makes the connection a WebSocket. `[MQTT-6.0.0-4]`
pub(super) fn switching(accept: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-accept: {accept}\r\nsec-websocket-protocol: {SUBPROTOCOL}\r\n\r\n"
    )
    .into_bytes()
}

/// The answer that refuses.
pub(super) fn refusing(refusal: &Refusal) -> Vec<u8> {
    let fields = refusal.headers().iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    let fields: String = fields.collect();
    let (status, phrase) = (refusal.status, refusal.phrase());
    let length = refusal.text.len() + 1;
    let text = refusal.text;
    format!(
        "HTTP/1.1 {status} {phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {length}\r\nconnection: close\r\n{fields}\r\n{text}\n"
    )
    .into_bytes()
}
