//! MQTT over WebSocket at a path of the HTTP port: a request becomes a connection of a worker.
//!
//! HTTP is not this room's: the node mounts the service where it answers HTTP. Once the request is
//! answered, the connection is taken out of hyper and tokio and goes on like one that came to a
//! WebSocket listener.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::census::{Admission, Census};
use crate::inbox::{Accepted, Inbound, Inboxes};
use crate::transport::Layers;
use crate::transport::web_socket::{self, Origins, Refusal, SUBPROTOCOL, WebSocket};
use crate::worker::READ_BYTES;

/// Answers requests for MQTT over WebSocket; a tower service and a cheap clone.
///
/// The connection below hyper must be a `TokioIo` over a `tokio::net::TcpStream`, and the service
/// be called within a tokio runtime. A `SocketAddr` among the request's extensions says where the
/// client is.
#[derive(Clone)]
pub struct Upgrade {
    pub(crate) inboxes: Inboxes,
    pub(crate) census: Arc<Census>,
    pub(crate) packet_bytes_max: u64,
    pub(crate) origins: Arc<[String]>,
}

impl<B> tower_service::Service<Request<B>> for Upgrade {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let peer = request.extensions().get::<SocketAddr>();
        // Where nobody says where the client is, it may be on this machine.
        let peer = peer.map_or(Ipv4Addr::LOCALHOST.into(), SocketAddr::ip);
        let origins = Origins::of(peer, &self.origins);
        let fields =
            request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let response = match web_socket::judge(request.method().as_str(), &origins, fields) {
            Err(refusal) => refused(&refusal),
            Ok(_) if !self.census.is_open.load(Ordering::Relaxed) => {
                unavailable("the node is starting or stopping")
            }
            Ok(accept) => match self.census.admit() {
                Admission::Taken => {
                    tokio::spawn(self.clone().hand_over(hyper::upgrade::on(&mut request)));
                    switching(&accept)
                }
                Admission::Told(refusal) => {
                    self.census.leave();
                    unavailable(refusal.text())
                }
                Admission::Closed => {
                    unavailable("the broker has as many connections as it may; try again later")
                }
            },
        };
        std::future::ready(Ok(response))
    }
}

impl Upgrade {
    /// Hands the connection to a worker once the answer is out. It was counted in before.
    async fn hand_over(self, upgraded: OnUpgrade) {
        let accepted = match upgraded.await {
            Ok(upgraded) => self.accepted(upgraded),
            Err(error) => Err(io::Error::other(error)),
        };
        match accepted {
            Ok(accepted) => self.inboxes.deal(Inbound::Accepted(accepted)),
            Err(error) => {
                tracing::debug!(%error, "a WebSocket did not come about");
                self.census.leave();
            }
        }
    }

    fn accepted(&self, upgraded: Upgraded) -> io::Result<Accepted> {
        let parts = upgraded.downcast::<TokioIo<TcpStream>>();
        let parts = parts.map_err(|_| io::Error::other("the connection is of another kind"))?;
        // Nobody sends so much before the answer came.
        if parts.read_buf.len() > READ_BYTES {
            return Err(io::Error::other("too much was sent along with the request"));
        }
        let stream = parts.io.into_inner().into_std()?;
        let peer: SocketAddr = stream.peer_addr()?;
        let _ = stream.set_nodelay(true);
        let web_socket = WebSocket::upgraded(self.packet_bytes_max);
        Ok(Accepted {
            stream: mio::net::TcpStream::from_std(stream),
            peer,
            layers: Some(Box::new(Layers::new(None, None, Some(web_socket)))),
            read: parts.read_buf.to_vec(),
            refusal: None,
        })
    }
}

fn switching(accept: &str) -> Response<String> {
    let mut response = Response::new(String::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let fields = response.headers_mut();
    fields.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    fields.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    let accept = HeaderValue::from_str(accept).expect("base64 is visible ASCII");
    fields.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response
}

fn unavailable(text: &str) -> Response<String> {
    let mut response = Response::new(format!("{text}\n"));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

fn refused(refusal: &Refusal) -> Response<String> {
    let mut response = Response::new(format!("{}\n", refusal.text));
    *response.status_mut() = StatusCode::from_u16(refusal.status).expect("one of ours");
    let fields = response.headers_mut();
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    fields.insert(header::CONTENT_TYPE, text);
    for (name, value) in refusal.headers() {
        fields.insert(*name, HeaderValue::from_static(value));
    }
    response
}
