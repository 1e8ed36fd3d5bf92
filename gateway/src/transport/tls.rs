//! TLS without a socket, over rustls' unbuffered interface: it decrypts and encrypts in buffers
//! that are given to it, and holds none of its own.

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic,
};

use crate::certificates::identity::{IdentityError, IdentityFrom, identity};

#[cfg(test)]
mod tests;

/// Bytes that wait for the rest of a record or of a handshake message, at most: one record is up to
/// 16 KiB and some.
const INPUT_BYTES_MAX: usize = 20 << 10;
/// What encryption adds to a record of up to 16 KiB, at most.
const RECORD_BYTES: usize = 16 << 10;
const RECORD_OVERHEAD: usize = 64;

/// Why a connection over TLS ends.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum TlsError {
    /// The handshake failed, or a record is not what was agreed on.
    #[error(transparent)]
    Protocol(#[from] rustls::Error),
    /// A handshake message, or a record, is longer than is taken.
    #[error("a handshake message is too long")]
    TooLong,
    /// The peer has TLS answer and does not read the answers.
    #[error("answers are not read")]
    NotRead,
    /// The certificate is right, but does not say who the client is.
    #[error("client certificate: {0}")]
    Identity(#[from] IdentityError),
}

/// One connection's TLS.
pub(crate) struct Tls {
    connection: UnbufferedServerConnection,
    identity_from: IdentityFrom,
    /// What came and is no whole record yet.
    input: Vec<u8>,
    stage: Stage,
    /// The peer sends nothing more.
    is_peer_closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Handshake,
    Open,
    /// We took our leave, or failed: rustls is not asked any more.
    Closed,
}

/// What came of some bytes, beside plaintext.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The handshake ended just now, and this is who the client is.
    pub(crate) identity: Option<Box<str>>,
    /// The peer will send nothing more.
    pub(crate) is_closed: bool,
}

impl Tls {
    /// Waits for a handshake.
    ///
    /// # Errors
    ///
    /// If the configuration cannot be used.
    pub(crate) fn new(
        config: Arc<ServerConfig>,
        identity_from: IdentityFrom,
    ) -> Result<Self, rustls::Error> {
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Self {
            connection,
            identity_from,
            input: Vec::new(),
            stage: Stage::Handshake,
            is_peer_closed: false,
        })
    }

    /// Takes bytes from the socket; appends what they hold to `plain`, and what is to be sent for
    /// them to `out`, in case of an error the alert.
    pub(crate) fn receive(
        &mut self,
        bytes: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Progress, TlsError> {
        if self.stage == Stage::Closed {
            return Ok(Progress { identity: None, is_closed: true });
        }
        let result = if self.input.is_empty() {
            self.drive(bytes, plain, out, |_, _| Ok(())).and_then(|used| self.keep(&bytes[used..]))
        } else {
            let mut input = std::mem::take(&mut self.input);
            input.extend_from_slice(bytes);
            let driven = self.drive(&mut input, plain, out, |_, _| Ok(()));
            driven.and_then(|used| self.keep(&input[used..]))
        };
        result.and_then(|()| self.progress()).inspect_err(|_| self.alert(out))
    }

    fn keep(&mut self, rest: &[u8]) -> Result<(), TlsError> {
        if rest.len() > INPUT_BYTES_MAX {
            return Err(TlsError::TooLong);
        }
        self.input = rest.to_vec();
        Ok(())
    }

    fn progress(&mut self) -> Result<Progress, TlsError> {
        let mut progress = Progress { identity: None, is_closed: self.is_peer_closed };
        if self.stage == Stage::Handshake && !self.connection.is_handshaking() {
            self.stage = Stage::Open;
            if let Some([certificate, ..]) = self.connection.peer_certificates() {
                progress.identity = Some(identity(certificate, self.identity_from)?);
            }
        }
        Ok(progress)
    }

    /// Whether the handshake is over and output can be sent.
    pub(crate) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// Encrypts `output` into `out`. Call it only while [`Tls::is_open`].
    pub(crate) fn send(&mut self, output: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        if output.is_empty() {
            return Ok(());
        }
        self.at_rest(out, |traffic, out| {
            let records = output.len() / RECORD_BYTES + 1;
            let room = output.len() + records * RECORD_OVERHEAD;
            append(out, room, |free| traffic.encrypt(output, free))
        })
    }

    /// Takes leave: nothing is sent after it.
    pub(crate) fn close(&mut self, out: &mut Vec<u8>) {
        if self.is_open() {
            // Without it the peer learns of the end from the socket.
            let _ = self.at_rest(out, |traffic, out| {
                append(out, RECORD_OVERHEAD, |free| traffic.queue_close_notify(free))
            });
        }
        self.stage = Stage::Closed;
    }

    /// Appends the alert that tells the peer why, if there is one.
    fn alert(&mut self, out: &mut Vec<u8>) {
        self.stage = Stage::Closed;
        self.input = Vec::new();
        // As long as it has something to write, it does not look at what it is given to read, which
        // is not there any more.
        while self.connection.wants_write() {
            match self.connection.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    let _ = append(out, 0, |free| data.encode(free));
                }
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while traffic.next_record().is_some() {}
                }
                _ => return,
            }
        }
    }

    /// Turns until output can be encrypted, and does so.
    fn at_rest(
        &mut self,
        out: &mut Vec<u8>,
        then: impl FnOnce(
            &mut WriteTraffic<'_, ServerConnectionData>,
            &mut Vec<u8>,
        ) -> Result<(), TlsError>,
    ) -> Result<(), TlsError> {
        let mut input = std::mem::take(&mut self.input);
        // All whole records were taken before: no plaintext comes of it.
        let used = self.drive(&mut input, &mut Vec::new(), out, then)?;
        input.drain(..used);
        self.input = input;
        Ok(())
    }

    /// Turns the connection until it needs more bytes; says how many of `bytes` it is done with.
    fn drive(
        &mut self,
        bytes: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
        at_rest: impl FnOnce(
            &mut WriteTraffic<'_, ServerConnectionData>,
            &mut Vec<u8>,
        ) -> Result<(), TlsError>,
    ) -> Result<usize, TlsError> {
        let mut used = 0;
        loop {
            let UnbufferedStatus { mut discard, state, .. } =
                self.connection.process_tls_records(&mut bytes[used..]);
            let is_blocked = match state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        plain.extend_from_slice(record.payload);
                        discard += record.discard;
                    }
                    false
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    append(out, 0, |free| data.encode(free))?;
                    false
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    false
                }
                ConnectionState::PeerClosed => {
                    self.is_peer_closed = true;
                    false
                }
                ConnectionState::WriteTraffic(mut traffic) => {
                    at_rest(&mut traffic, out)?;
                    return Ok(used + discard);
                }
                // No early data is agreed on, so it never comes; nor do states of later versions.
                ConnectionState::BlockedHandshake | ConnectionState::Closed | _ => true,
            };
            used += discard;
            if is_blocked {
                return Ok(used);
            }
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("stage", &self.stage).finish_non_exhaustive()
    }
}

/// What rustls says when a buffer is too small, or worse.
trait Room {
    /// Bytes that are needed, if that is all that is wrong.
    fn required(&self) -> Option<usize>;
}

impl Room for EncodeError {
    fn required(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(error) => Some(error.required_size),
            Self::AlreadyEncoded => None,
        }
    }
}

impl Room for EncryptError {
    fn required(&self) -> Option<usize> {
        match self {
            Self::InsufficientSize(error) => Some(error.required_size),
            Self::EncryptExhausted => None,
        }
    }
}

/// Has `write` write behind the end of `out`, with at least `room` bytes or as many as it needs.
fn append<E: Room>(
    out: &mut Vec<u8>,
    mut room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, E>,
) -> Result<(), TlsError> {
    let end = out.len();
    loop {
        out.resize(end + room, 0);
        match write(&mut out[end..]) {
            Ok(written) => {
                out.truncate(end + written);
                return Ok(());
            }
            Err(error) => match error.required() {
                Some(required) if required > room => room = required,
                _ => {
                    out.truncate(end);
                    return Err(rustls::Error::EncryptError.into());
                }
            },
        }
    }
}
