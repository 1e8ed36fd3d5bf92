//! What a client may speak MQTT over: TCP, TLS, WebSocket.

use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned, SupportedProtocolVersion};

use super::DEADLINE;
use super::certificates::{Authority, Issued};

/// A transport that reads with a time limit.
pub(crate) trait Stream: Read + Write + Debug + Send {
    /// A read that takes longer ends with `WouldBlock` or `TimedOut`.
    fn wait_at_most(&mut self, timeout: Duration) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn wait_at_most(&mut self, timeout: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(timeout))
    }
}

/// A TCP connection.
pub(crate) fn tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    Ok(stream)
}

pub(crate) type Tls = StreamOwned<ClientConnection, TcpStream>;

impl Stream for Tls {
    fn wait_at_most(&mut self, timeout: Duration) -> io::Result<()> {
        self.sock.set_read_timeout(Some(timeout))
    }
}

/// How a client speaks TLS.
#[derive(Clone, Debug)]
pub(crate) struct TlsOptions {
    pub(crate) versions: Vec<&'static SupportedProtocolVersion>,
    /// The host name that the server is to prove.
    pub(crate) host: &'static str,
    /// Whether that name is told the server.
    pub(crate) sni: bool,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self { versions: rustls::ALL_VERSIONS.to_vec(), host: "localhost", sni: true }
    }
}

/// A TLS configuration of a client that trusts `authority`.
pub(crate) fn tls_config(
    authority: &Authority,
    issued: Option<&Issued>,
    options: &TlsOptions,
) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&options.versions)
        .expect("versions that there are")
        .with_root_certificates(authority.roots());
    let mut config = match issued {
        None => builder.with_no_client_auth(),
        Some(issued) => builder
            .with_client_auth_cert(
                vec![issued.certificate.der().clone()],
                PrivateKeyDer::Pkcs8(issued.key.serialized_der().to_vec().into()),
            )
            .expect("a key that fits"),
    };
    config.enable_sni = options.sni;
    config
}

/// A TLS connection whose handshake is over.
pub(crate) fn tls(
    address: SocketAddr,
    authority: &Authority,
    issued: Option<&Issued>,
    options: &TlsOptions,
) -> io::Result<Tls> {
    tls_with(Arc::new(tls_config(authority, issued, options)), tcp(address)?, options.host)
}

/// The same with a configuration made before and over a connection made before.
pub(crate) fn tls_with(
    config: Arc<ClientConfig>,
    mut tcp: TcpStream,
    host: &'static str,
) -> io::Result<Tls> {
    let name = ServerName::try_from(host).expect("a host name");
    let mut connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut tcp)?;
    }
    Ok(StreamOwned::new(connection, tcp))
}
