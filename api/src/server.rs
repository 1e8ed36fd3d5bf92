//! The HTTP server: a router over [`Sources`], and the loop that accepts connections.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use axum::{Extension, Router, middleware};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_service::Service;

use crate::access::{self, Peer, Token};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::readiness::{Check, Readiness};
use crate::v1::{self, Rooms};

/// HTTP connections at the same time; the next one waits in the listen queue.
const CONNECTIONS_MAX: usize = 256;
/// Time that a client has to send the head of a request; an idle connection is closed after it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after an accept that failed (no file descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the answers come from. The functions are called on the server's thread and must be quick.
pub struct Sources {
    /// The checks behind `/readyz`, judged now.
    pub checks: Box<dyn Fn() -> Vec<Check> + Send + Sync>,
    /// Sets the gauges that are only known by asking; called before `/metrics` is rendered.
    pub gather: Box<dyn Fn() + Send + Sync>,
    /// The process' metrics.
    pub metrics: Metrics,
    /// What `/api/v1` answers from.
    pub rooms: Rooms,
    /// Opens `/api/v1` and `/metrics` to those who are not on this machine, and all that changes
    /// something.
    pub token: Token,
    /// Whether `/metrics` is open to all.
    pub metrics_open: bool,
}

/// The address of the server is taken, or may not be used.
#[derive(Debug, thiserror::Error)]
#[error("HTTP cannot listen on {address}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// A bound server that does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    mounts: Router,
}

impl Server {
    /// Binds the address of the configuration.
    ///
    /// # Errors
    ///
    /// See [`BindError`].
    pub fn bind(config: &Config) -> Result<Self, BindError> {
        let address = config.address;
        let error = |source| BindError { address, source };
        let listener = TcpListener::bind(address).map_err(error)?;
        listener.set_nonblocking(true).map_err(error)?;
        let address = listener.local_addr().map_err(error)?;
        Ok(Self { listener, address, mounts: Router::new() })
    }

    /// Has `service` of another room answer the requests for `path`. Its answer may be an upgrade of
    /// the connection: that is a `TokioIo` over a `tokio::net::TcpStream`, and no longer counted
    /// here. The client's `SocketAddr` is among the request's extensions.
    #[must_use]
    pub fn mount<S>(mut self, path: &str, service: S) -> Self
    where
        S: Service<Request, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        self.mounts = self.mounts.route_service(path, service);
        self
    }

    /// The address bound: that of the configuration, with a port chosen by the system if it was 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `stop` is ready; connections that are open then are dropped.
    ///
    /// Must run within a tokio runtime with I/O and time.
    ///
    /// # Errors
    ///
    /// If the runtime does not take the listener.
    pub async fn run(self, sources: Sources, stop: impl Future<Output = ()>) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let router = router(sources).merge(self.mounts);
        let accept = async {
            let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
            loop {
                let permit = permits.clone().acquire_owned().await;
                let permit = permit.expect("the semaphore is never closed");
                match listener.accept().await {
                    Ok((stream, peer)) => {
                        let router =
                            router.clone().layer(Extension(Peer(peer))).layer(Extension(peer));
                        tokio::spawn(answer(stream, router, permit));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "HTTP connection was not accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            () = accept => {}
            () = stop => {}
        }
        Ok(())
    }
}

/// Answers the requests of one connection until it ends.
async fn answer(stream: TcpStream, router: Router, _permit: OwnedSemaphorePermit) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "HTTP connection ended");
    }
}

fn router(sources: Sources) -> Router {
    let may_read = middleware::from_fn_with_state(sources.token.clone(), access::may_read);
    let may_change = middleware::from_fn_with_state(sources.token.clone(), access::may_change);
    let changing = v1::changing_router(sources.rooms.clone()).layer(may_change);
    let v1 = v1::router(sources.rooms.clone()).layer(may_read.clone()).merge(changing);
    let mut metrics = Router::new().route("/metrics", get(metrics));
    if !sources.metrics_open {
        metrics = metrics.layer(may_read);
    }
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .merge(metrics)
        .with_state(Arc::new(sources))
        .nest("/api/v1", v1)
        .fallback(async |uri: Uri| {
            Problem::not_found(format!("there is nothing at {}", uri.path()))
        })
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
}

/// The process answers; nothing else is asked.
async fn healthz() -> Response {
    Json(serde_json::json!({ "status": "ok" })).into_response()
}

async fn readyz(State(sources): State<Arc<Sources>>) -> Response {
    let readiness = Readiness::from((sources.checks)());
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

async fn metrics(State(sources): State<Arc<Sources>>) -> Response {
    (sources.gather)();
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, sources.metrics.render()).into_response()
}

#[cfg(test)]
mod tests;
