//! Which running node is asked, and what opens it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::client::{Ask, AskError, Reply, Url};
use crate::cli::{Exit, Failure};

/// Where a node keeps its data if nothing is said.
const DATA_DIR: &str = "./ledgermq-data";
/// The variable that a token may stand in, so that it is not among the arguments.
const VARIABLE: &str = "LEDGERMQ_TOKEN";

/// The node to ask.
#[derive(Debug, Args)]
pub(super) struct NodeArguments {
    /// Data directory of the node, where its address (admin.json) and its token (admin.token)
    /// stand [default: ./ledgermq-data].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address of the node, such as http://10.0.0.1:8080, instead.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Token of the node. Other users of the machine can see it here: LEDGERMQ_TOKEN and
    /// --data-dir are the other ways to give it.
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
}

/// A node that can be asked.
pub(super) struct RunningNode {
    url: Url,
    token: Option<String>,
}

impl NodeArguments {
    /// Finds address and token.
    pub(super) fn find(&self) -> Result<RunningNode, Failure> {
        let said = self.token.clone().or_else(|| std::env::var(VARIABLE).ok());
        let said = said.filter(|token| !token.trim().is_empty());
        let (url, token) = match (&self.url, &self.data_dir) {
            (Some(url), None) => (url.clone(), said),
            (url, dir) => {
                let dir = dir.as_deref().unwrap_or(Path::new(DATA_DIR));
                let url = url.clone().map_or_else(|| address(dir), Ok)?;
                let token = said.map_or_else(|| read(&dir.join("admin.token")), Ok)?;
                (url, Some(token))
            }
        };
        let url = url.parse().map_err(|error| Failure::new(Exit::Usage, error))?;
        let token = token.map(|token| token.trim().to_owned());
        if token.as_ref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            let text = "the token of the node holds what no token has";
            return Err(Failure::new(Exit::Usage, text));
        }
        Ok(RunningNode { url, token })
    }
}

/// The address that a node has written down.
fn address(dir: &Path) -> Result<String, Failure> {
    let path = dir.join("admin.json");
    let about: Option<Value> = serde_json::from_str(&read(&path)?).ok();
    let url = about.as_ref().and_then(|about| about.get("url")).and_then(Value::as_str);
    url.map(ToOwned::to_owned).ok_or_else(|| {
        let text = format!("{} does not say where the node is: name --url", path.display());
        Failure::new(Exit::Failure, text)
    })
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| {
        let (exit, hint) = match error.kind() {
            io::ErrorKind::NotFound => (
                Exit::NotFound,
                "; no node has run there: name its --data-dir, or --url and --token",
            ),
            io::ErrorKind::PermissionDenied => (Exit::NotAllowed, ""),
            _ => (Exit::Failure, ""),
        };
        Failure::new(exit, format!("cannot read {} ({error}){hint}", path.display()))
    })
}

impl RunningNode {
    /// What the node answers to a request for `path` below `/api/v1`.
    pub(super) fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let body = body.map(Value::to_string);
        let path = format!("/api/v1{path}");
        let ask = Ask { method, path: &path, token: self.token.as_deref(), body: body.as_deref() };
        let reply = self.url.ask(&ask).map_err(|error| {
            let exit = match &error {
                AskError::Unreachable(_) => Exit::Unavailable,
                AskError::Broken(_) => Exit::Failure,
            };
            Failure::new(exit, format!("{}: {error}", self.url))
        })?;
        judge(&reply)
    }
}

/// The answer, or the failure that its status is.
fn judge(reply: &Reply) -> Result<Value, Failure> {
    let body: Option<Value> = serde_json::from_slice(&reply.body).ok();
    let exit = match reply.status {
        200..=299 => {
            let text = "the node answered something that is not JSON";
            return body.ok_or_else(|| Failure::new(Exit::Failure, text));
        }
        400 | 405 | 422 => Exit::Usage,
        401 | 403 => Exit::NotAllowed,
        404 => Exit::NotFound,
        409 => Exit::Conflict,
        503 => Exit::Unavailable,
        _ => Exit::Failure,
    };
    let detail = body.as_ref().and_then(|body| body.get("detail")).and_then(Value::as_str);
    let status = reply.status;
    let text = detail.map_or_else(|| format!("the node answered {status}"), ToOwned::to_owned);
    Err(Failure::new(exit, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(status: u16, body: &str) -> (Exit, String) {
        let reply = Reply { status, body: body.as_bytes().to_vec() };
        let failure = judge(&reply).err().unwrap();
        (failure.exit, failure.message)
    }

    #[test]
    fn every_refusal_has_its_exit_code_and_the_text_of_the_node() {
        for (status, expected) in [
            (400, Exit::Usage),
            (401, Exit::NotAllowed),
            (404, Exit::NotFound),
            (409, Exit::Conflict),
            (500, Exit::Failure),
            (503, Exit::Unavailable),
        ] {
            let body = r#"{"detail":"no such thing"}"#;
            assert_eq!(exit(status, body), (expected, "no such thing".to_owned()));
        }
        assert_eq!(exit(404, "<html>").1, "the node answered 404");
        assert_eq!(exit(200, "<html>").0, Exit::Failure);
    }

    #[test]
    fn a_directory_without_a_node_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = Some(dir.path().to_owned());
        let arguments = NodeArguments { data_dir, url: None, token: None };
        assert_eq!(arguments.find().err().unwrap().exit, Exit::NotFound);
        fs::write(dir.path().join("admin.json"), r#"{"url":"http://127.0.0.1:1"}"#).unwrap();
        fs::write(dir.path().join("admin.token"), "secret\n").unwrap();
        let node = arguments.find().ok().unwrap();
        assert_eq!(node.token.as_deref(), Some("secret"));
        assert_eq!(node.url.to_string(), "http://127.0.0.1:1");
        assert_eq!(node.ask("GET", "/cluster", None).err().unwrap().exit, Exit::Unavailable);
    }
}
