//! Connections of clients that do not trust the node they speak to: whoever does not answer in time is
//! left for another.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ledgermq_core::packet::{Connect, Packet, ProtocolVersion};

use crate::support::client::Client;
use crate::support::packets::{Connected, Received};

/// A node that does not answer for so long is left.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);
/// How long reaching a node may take.
const REACH: Duration = Duration::from_secs(1);
/// Pause between two attempts.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);
/// Seconds for which sessions outlive their connections.
const SESSION_EXPIRY: u32 = 24 * 3_600;

/// Asks for a session that outlives its connection, and for what it was owed.
pub(crate) fn persistent(client_id: &str) -> Connect<'_> {
    let mut connect = Connect::new(ProtocolVersion::V5, client_id, false);
    connect.session_expiry_interval = Some(SESSION_EXPIRY);
    connect
}

/// Connects; what the CONNACK said.
///
/// # Errors
///
/// Also if the node answers and takes nobody now.
pub(crate) fn connect(
    address: SocketAddr,
    connect: &Connect<'_>,
) -> io::Result<(Client, Connected)> {
    let stream = TcpStream::connect_timeout(&address, REACH)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut client = Client::over(Box::new(stream), connect.version);
    client.try_send(&Packet::Connect(Box::new(connect.clone())))?;
    match client.next(PATIENCE)? {
        Some(Received::ConnAck(connected)) if !connected.reason.is_error() => {
            Ok((client, connected))
        }
        Some(Received::ConnAck(connected)) => {
            Err(io::Error::other(format!("refused: {:?}", connected.reason)))
        }
        Some(other) => panic!("{other:?} instead of CONNACK"),
        None => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Finds out whether the other end is still there though it has nothing to say.
#[derive(Debug)]
pub(crate) struct Pulse {
    heard: Instant,
    is_asked: bool,
}

impl Pulse {
    pub(crate) fn new() -> Self {
        Self { heard: Instant::now(), is_asked: false }
    }

    /// Something came.
    pub(crate) fn heard(&mut self) {
        *self = Self::new();
    }

    /// Asks after a second of silence; an error when none came for too long.
    pub(crate) fn feel(&mut self, client: &mut Client) -> io::Result<()> {
        let silence = self.heard.elapsed();
        if silence > PATIENCE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if silence > Duration::from_secs(1) && !self.is_asked {
            self.is_asked = true;
            client.try_send(&Packet::PingReq)?;
        }
        Ok(())
    }
}
