//! How a node asks to be let into a cluster: before it has a log, on a connection of its own.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use super::resolve::all;
use super::tls::{self, TlsError};
use crate::cluster::frame::{Decoder, Frame, FrameError, Join, Joined, Lane, Refusal, RefusalCode};
use crate::cluster::token::{Grant, JoinToken, TokenError};

/// A member answers within half a minute, or says that it cannot.
const ANSWER_MAX: Duration = Duration::from_secs(40);
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Members that are asked, and told of by those who were.
const ASKED_MAX: usize = 32;

/// What a node needs to ask.
#[derive(Clone, Debug)]
pub struct Joining {
    /// Members to ask, before those that the token names.
    pub addresses: Vec<String>,
    /// What it asks.
    pub join: Join,
    /// Without TLS: everybody can read the answer, the cluster's keys among it.
    pub is_insecure: bool,
}

/// A node was not let in.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token is none.
    #[error("the token cannot be used: {0}")]
    Token(#[from] TokenError),
    /// A member does not want it, for good.
    #[error("{address} does not let this node in: {refusal}")]
    Refused {
        /// Which member.
        address: String,
        /// Why.
        refusal: Refusal,
    },
    /// Nobody has answered; it is worth asking again.
    #[error("no member has answered: {0}")]
    Unanswered(String),
    /// TLS cannot be spoken.
    #[error("TLS cannot be set up")]
    Tls(#[from] TlsError),
}

/// Why one member gave no answer.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it sent {0}")]
    Frame(#[from] FrameError),
    #[error("it is a member of another cluster")]
    Foreign,
    #[error("it sent something else than an answer")]
    Other,
}

/// Asks the members one after the other, and whom they name instead, until one lets this node in.
/// Blocks; to ask again with the same key and number is safe.
///
/// # Errors
///
/// If a member refuses, or none answers.
pub fn join(joining: &Joining) -> Result<Joined, JoinError> {
    let token: JoinToken = joining.join.token.parse()?;
    let grant = token.grant();
    let mut waiting: VecDeque<&str> = joining.addresses.iter().map(String::as_str).collect();
    waiting.extend(grant.addresses.iter().map(String::as_str));
    let mut waiting: VecDeque<String> = waiting.into_iter().map(ToOwned::to_owned).collect();
    let mut asked: Vec<String> = Vec::new();
    let mut failures = Vec::new();
    while let Some(address) = waiting.pop_front() {
        if asked.contains(&address) || asked.len() >= ASKED_MAX {
            continue;
        }
        asked.push(address.clone());
        // Where the node stands whose place it takes: nobody is there but itself, who would wait.
        if address == joining.join.address {
            failures.push(format!("{address}: that is this node itself"));
            continue;
        }
        match ask(&address, joining, grant) {
            Ok(Ok(joined)) => return Ok(joined),
            Ok(Err(refusal)) => match refusal.code {
                RefusalCode::NotLeader | RefusalCode::Busy | RefusalCode::Stopping => {
                    if !refusal.instead.is_empty() {
                        waiting.push_front(refusal.instead.clone());
                    }
                    failures.push(format!("{address}: {refusal}"));
                }
                _ => return Err(JoinError::Refused { address, refusal }),
            },
            Err(failed) => failures.push(format!("{address}: {failed}")),
        }
    }
    Err(JoinError::Unanswered(failures.join("; ")))
}

fn ask(address: &str, joining: &Joining, grant: &Grant) -> Result<Result<Joined, Refusal>, Failed> {
    let socket = dial(address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(ANSWER_MAX))?;
    socket.set_write_timeout(Some(CONNECT_MAX))?;
    let answer = if joining.is_insecure {
        exchange(socket, &joining.join)?
    } else {
        let config = tls::joining(grant.cluster, grant.authority).map_err(io::Error::other)?;
        // Whoever answers is known by its certificate, not by a name.
        let name = ServerName::try_from("ledgermq").map_err(io::Error::other)?;
        let client = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        exchange(StreamOwned::new(client, socket), &joining.join)?
    };
    match answer {
        Frame::Joined(joined) if joined.cluster == grant.cluster => Ok(Ok(*joined)),
        Frame::Joined(_) => Err(Failed::Foreign),
        Frame::Refusal(refusal) => Ok(Err(*refusal)),
        _ => Err(Failed::Other),
    }
}

/// Connects to the first address of a name that answers.
fn dial(name: &str) -> io::Result<TcpStream> {
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in all(name)? {
        match TcpStream::connect_timeout(&address, CONNECT_MAX) {
            Ok(socket) => return Ok(socket),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn exchange(mut stream: impl Read + Write, join: &Join) -> Result<Frame, Failed> {
    let mut bytes = Vec::new();
    Frame::Join(Box::new(join.clone())).encode(&mut bytes)?;
    stream.write_all(&bytes)?;
    stream.flush()?;
    let mut decoder = Decoder::new(Some(Lane::Bulk));
    let mut buffer = vec![0; 16 << 10];
    loop {
        if let Some((frame, _)) = decoder.next_frame()? {
            return Ok(frame);
        }
        match stream.read(&mut buffer)? {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            bytes => decoder.push(&buffer[..bytes]),
        }
    }
}
