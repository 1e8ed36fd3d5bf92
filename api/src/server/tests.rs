use std::net::Ipv4Addr;
use std::path::Path;

use ledgermq_core::offset::Timestamp;
use ledgermq_projections::views::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A log and the projections of nothing.
fn rooms(dir: &Path) -> Rooms {
    let (log, _thread) =
        ledgermq_log::open(ledgermq_log::Options::new(dir.join("log"), 1)).unwrap();
    let options = ledgermq_projections::projector::Options {
        node: 1,
        start: log.start(),
        limits: Limits::default(),
        checkpoint_interval: Duration::from_secs(3),
    };
    let opened = ledgermq_projections::driver::open(dir.join("views"), options, &log).unwrap();
    let node = v1::Node { id: 1, version: "0", started: Timestamp(0) };
    let counts: v1::AskCounts = Arc::new(|_| Box::pin(async { None }));
    Rooms { views: opened.reader(), log, node, counts, tokens: None }
}

/// Asks a server with those checks for `path`; the answer's head and body.
fn ask(path: &str, checks: Vec<Check>) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = Config { address: (Ipv4Addr::LOCALHOST, 0).into(), ..Config::default() };
        let server = Server::bind(&config).unwrap();
        let address = server.address();
        let dir = tempfile::tempdir().unwrap();
        let sources = Sources {
            checks: Box::new(move || checks.clone()),
            gather: Box::new(|| ()),
            metrics: Metrics::detached(),
            rooms: rooms(dir.path()),
            token: Token::new(&"t".repeat(32)).unwrap(),
            metrics_open: false,
        };
        let running = tokio::spawn(server.run(sources, std::future::pending()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        running.abort();
        answer
    })
}

#[test]
fn health_asks_nothing_but_whether_the_process_answers() {
    let answer = ask("/healthz", vec![Check::failed("log", "the disk is full")]);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn readiness_is_200_if_every_check_holds() {
    let answer = ask("/readyz", vec![Check::ready("log").with("commit_index", 7)]);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with(
        r#"{"ready":true,"checks":[{"name":"log","ready":true,"details":{"commit_index":7}}]}"#
    ));
}

#[test]
fn readiness_is_503_with_the_reason_if_one_check_fails() {
    let answer = ask("/readyz", vec![Check::ready("api"), Check::failed("log", "disk is full")]);
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains(r#"{"name":"log","ready":false,"reason":"disk is full"}"#));
}

#[test]
fn metrics_are_text_for_prometheus() {
    let answer = ask("/metrics", Vec::new());
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.to_lowercase().contains("content-type: text/plain; version=0.0.4"));
}

#[test]
fn another_path_is_not_found() {
    assert!(ask("/", Vec::new()).starts_with("HTTP/1.1 404"));
}

#[test]
fn an_address_that_is_taken_is_named() {
    let config = Config { address: (Ipv4Addr::LOCALHOST, 0).into(), ..Config::default() };
    let first = Server::bind(&config).unwrap();
    let error =
        Server::bind(&Config { address: first.address(), ..Config::default() }).unwrap_err();
    assert!(error.to_string().contains(&first.address().to_string()));
}
