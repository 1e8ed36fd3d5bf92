//! Who may ask: on loopback anyone may read, elsewhere it needs the node's token.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::problem::Problem;

/// Address of the client of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// The token that opens everything. Its text is shown nowhere.
#[derive(Clone)]
pub struct Token(Arc<str>);

impl Token {
    /// A token with this text.
    ///
    /// # Errors
    ///
    /// If it is too short to be a secret: less than 32 characters.
    pub fn new(text: &str) -> Result<Self, WeakToken> {
        let text = text.trim();
        if text.len() < 32 { Err(WeakToken) } else { Ok(Self(text.into())) }
    }

    /// Whether `given` is the token; takes the same time wherever they differ.
    fn is(&self, given: &str) -> bool {
        let (own, given) = (self.0.as_bytes(), given.as_bytes());
        let differences = own.iter().zip(given).fold(0, |all, (a, b)| all | (a ^ b));
        own.len() == given.len() && differences == 0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A text that is too short to be a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token has at least 32 characters")]
pub struct WeakToken;

/// Lets reading requests pass that may be answered.
pub(crate) async fn may_read(State(token): State<Token>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    match check(&token, peer, request.headers(), request.uri()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Lets requests pass that change something: reading is open on this machine, changing is not.
pub(crate) async fn may_change(
    State(token): State<Token>,
    request: Request,
    next: Next,
) -> Response {
    match check(&token, None, request.headers(), request.uri()) {
        Ok(()) => next.run(request).await,
        Err(_) => Problem::unauthorized(
            "changes need the token of the node: send the text of the file admin.token of its data \
             directory as `Authorization: Bearer TOKEN`",
        )
        .into_response(),
    }
}

fn check(token: &Token, peer: Option<Peer>, headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let given = value.to_str().ok().and_then(|text| {
            let (scheme, given) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(given.trim())
        });
        return match given {
            Some(given) if token.is(given) => Ok(()),
            _ => Err(Problem::unauthorized(
                "the token is not that of this node: it stands in the file admin.token of the \
                 node's data directory",
            )),
        };
    }
    let is_local = peer.is_some_and(|Peer(address)| address.ip().to_canonical().is_loopback());
    // A page in a browser of this machine may be made to ask us by a name that it controls.
    if is_local && is_local_name(headers, uri) {
        return Ok(());
    }
    Err(Problem::unauthorized(
        "without a token only requests from this machine, to localhost or a loopback address, are \
         answered: send the text of the file admin.token of the node's data directory as \
         `Authorization: Bearer TOKEN`",
    ))
}

/// Whether the request names this machine as loopback does.
fn is_local_name(headers: &HeaderMap, uri: &Uri) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let Some(authority) = uri.authority().map(|authority| authority.as_str()).or(host) else {
        return false;
    };
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => authority,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "0123456789abcdef0123456789abcdef";

    fn ask(peer: &str, host: &str, authorization: Option<&str>) -> bool {
        let token = Token::new(TEXT).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        }
        let peer = Peer(peer.parse().unwrap());
        check(&token, Some(peer), &headers, &Uri::from_static("/api/v1/node")).is_ok()
    }

    #[test]
    fn loopback_needs_no_token_if_it_is_named_so() {
        for host in ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "127.0.0.2"] {
            assert!(ask("127.0.0.1:9", host, None), "{host}");
        }
        assert!(ask("[::ffff:127.0.0.1]:9", "localhost", None));
        for host in ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "", ":80"] {
            assert!(!ask("127.0.0.1:9", host, None), "{host}");
        }
    }

    #[test]
    fn others_need_the_token() {
        assert!(!ask("10.0.0.7:9", "localhost", None));
        assert!(ask("10.0.0.7:9", "broker.example", Some(&format!("Bearer {TEXT}"))));
        assert!(ask("10.0.0.7:9", "broker.example", Some(&format!("bearer  {TEXT} "))));
        assert!(!ask("10.0.0.7:9", "broker.example", Some(TEXT)));
        assert!(!ask("10.0.0.7:9", "broker.example", Some(&format!("Basic {TEXT}"))));
    }

    #[test]
    fn a_wrong_token_is_refused_on_loopback_too() {
        assert!(!ask("127.0.0.1:9", "localhost", Some("Bearer 0123456789abcdef0123456789abcdeX")));
        assert!(!ask("127.0.0.1:9", "localhost", Some("Bearer 0123")));
    }

    #[test]
    fn a_token_is_no_short_text_and_is_not_shown() {
        assert_eq!(Token::new("short").err(), Some(WeakToken));
        assert_eq!(format!("{:?}", Token::new(TEXT).unwrap()), "Token(..)");
    }
}
