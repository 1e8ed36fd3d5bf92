//! A client for HTTP/1.1, as much as is needed to ask one node one thing.
//!
//! Each question has a connection of its own, times and sizes that bound it, and no redirects.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

const CONNECT_MAX: Duration = Duration::from_secs(5);
/// A node answers within 40 seconds, even if the cluster cannot do what it is asked for.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 16 << 20;
const HEADERS_MAX: usize = 64;
const PORT: u16 = 80;

/// Where a node answers HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    /// As it is written in a URL: an IPv6 address is within brackets.
    host: String,
    port: u16,
}

/// A text that is no [`Url`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the address of a node: http://HOST:PORT is meant, without a path")]
pub(super) struct UrlError(String);

/// One question.
pub(super) struct Ask<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) token: Option<&'a str>,
    /// JSON.
    pub(super) body: Option<&'a str>,
}

/// What was answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// Why nothing was answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// Nobody is there, or nobody answers in time.
    #[error("no node answers ({0})")]
    Unreachable(io::Error),
    /// What came is no answer.
    #[error("what answers there is no node ({0})")]
    Broken(&'static str),
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let wrong = || UrlError(text.to_owned());
        let rest = text.strip_prefix("http://").ok_or_else(wrong)?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| wrong())?),
            _ => (authority, PORT),
        };
        let is_v6 = host.starts_with('[') && host.ends_with(']');
        let inner = host.trim_matches(['[', ']']);
        let is_usable = !inner.is_empty()
            && inner.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte))
            && inner.contains(':') == is_v6;
        if !is_usable {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

impl Url {
    /// Asks, and waits for the whole answer.
    pub(super) fn ask(&self, ask: &Ask<'_>) -> Result<Reply, AskError> {
        let mut stream = self.connect().map_err(AskError::Unreachable)?;
        stream.write_all(self.request(ask).as_bytes()).map_err(AskError::Unreachable)?;
        let mut bytes = Vec::new();
        // One more than may be, to see that there is more.
        let read = Read::take(stream, ANSWER_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
        match (parse(&bytes), read) {
            // Who has the whole answer does not mind how the connection ends.
            (Ok(reply), _) => Ok(reply),
            (Err(Fault::Cut), Err(error)) => Err(AskError::Unreachable(error)),
            (Err(fault), _) => Err(AskError::Broken(fault.text())),
        }
    }

    fn request(&self, ask: &Ask<'_>) -> String {
        let Ask { method, path, token, body } = ask;
        let (host, port) = (&self.host, self.port);
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\
             Accept: application/json\r\n"
        );
        if let Some(token) = token {
            request.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        if let Some(body) = body {
            let length = body.len();
            request.push_str("Content-Type: application/json\r\n");
            request.push_str(&format!("Content-Length: {length}\r\n\r\n{body}"));
        } else {
            request.push_str("\r\n");
        }
        request
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let host = self.host.trim_matches(['[', ']']);
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in (host, self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_MAX) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(ANSWER_MAX))?;
                    stream.set_write_timeout(Some(ANSWER_MAX))?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// Why bytes are no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Cut,
    TooLong,
    NoHttp,
}

impl Fault {
    fn text(self) -> &'static str {
        match self {
            Self::Cut => "the answer is cut off",
            Self::TooLong => "the answer is too long",
            Self::NoHttp => "the answer is not HTTP/1.1",
        }
    }
}

/// Reads an answer from all that came before the connection was closed.
fn parse(bytes: &[u8]) -> Result<Reply, Fault> {
    if bytes.len() > ANSWER_BYTES_MAX {
        return Err(Fault::TooLong);
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Err(Fault::Cut),
        Err(_) => return Err(Fault::NoHttp),
    };
    let status = head.code.ok_or(Fault::NoHttp)?;
    let header = |name: &str| {
        let header = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.map(|header| String::from_utf8_lossy(header.value).trim().to_owned())
    };
    let rest = &bytes[length..];
    let body = if header("transfer-encoding").is_some_and(|it| it.eq_ignore_ascii_case("chunked")) {
        unchunk(rest)?
    } else if let Some(length) = header("content-length") {
        let length: usize = length.parse().map_err(|_| Fault::NoHttp)?;
        rest.get(..length).ok_or(Fault::Cut)?.to_vec()
    } else {
        rest.to_vec()
    };
    Ok(Reply { status, body })
}

/// The content of a chunked body (RFC 9112 section 7.1).
fn unchunk(mut rest: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    loop {
        let (start, size) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Err(Fault::Cut),
            Err(_) => return Err(Fault::NoHttp),
        };
        if size == 0 {
            return Ok(body);
        }
        let size = usize::try_from(size).ok().filter(|size| *size <= ANSWER_BYTES_MAX);
        let end = start + size.ok_or(Fault::TooLong)?;
        body.extend_from_slice(rest.get(start..end).ok_or(Fault::Cut)?);
        match rest.get(end..end + 2) {
            Some(b"\r\n") => rest = &rest[end + 2..],
            Some(_) => return Err(Fault::NoHttp),
            None => return Err(Fault::Cut),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    use super::*;

    #[test]
    fn an_address_of_a_node_is_a_host_and_perhaps_a_port() {
        for (text, shown) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://node-1.example/", "http://node-1.example:80"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("http://[fd00::1]", "http://[fd00::1]:80"),
        ] {
            assert_eq!(text.parse::<Url>().unwrap().to_string(), shown);
        }
        for text in [
            "",
            "127.0.0.1:8080",
            "https://node",
            "http://",
            "http://:80",
            "http://node:port",
            "http://node:65536",
            "http://node/api",
            "http://user@node",
            "http://::1",
            "http://a b",
        ] {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
    }

    fn body(answer: &str) -> Result<String, Fault> {
        parse(answer.as_bytes()).map(|reply| String::from_utf8(reply.body).unwrap())
    }

    #[test]
    fn a_body_ends_where_its_length_says_or_with_its_last_chunk_or_the_connection() {
        let length = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody and more";
        assert_eq!(body(length).unwrap(), "body");
        let chunked = "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: Chunked\r\n\r\n\
                       3\r\nbod\r\n1;x=y\r\ny\r\n0\r\n\r\n";
        assert_eq!(body(chunked).unwrap(), "body");
        assert_eq!(parse(chunked.as_bytes()).unwrap().status, 404);
        assert_eq!(body("HTTP/1.1 200 OK\r\n\r\nbody").unwrap(), "body");
    }

    #[test]
    fn what_is_cut_off_or_no_answer_is_seen() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n";
        let length = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody";
        for whole in [chunked, length] {
            assert!(body(whole).is_ok());
            for at in 0..whole.len() - 1 {
                assert_eq!(body(&whole[..at]), Err(Fault::Cut), "{at} of {whole:?}");
            }
        }
        for bad in [
            "SSH-2.0-x\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        ] {
            assert_eq!(body(bad), Err(Fault::NoHttp), "{bad:?}");
        }
        let huge = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n";
        assert_eq!(body(huge), Err(Fault::TooLong));
        assert_eq!(parse(&vec![b'x'; ANSWER_BYTES_MAX + 1]), Err(Fault::TooLong));
    }

    #[test]
    fn a_question_is_sent_with_its_token_and_body() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url: Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"{}") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
            String::from_utf8(request).unwrap()
        });
        let ask = Ask { method: "POST", path: "/x", token: Some("secret"), body: Some("{}") };
        assert_eq!(url.ask(&ask).unwrap(), Reply { status: 200, body: b"ok".to_vec() });
        let request = server.join().unwrap();
        assert!(request.starts_with("POST /x HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("\r\nAuthorization: Bearer secret\r\n"), "{request}");
        assert!(request.contains("\r\nContent-Length: 2\r\n"), "{request}");
    }
}
