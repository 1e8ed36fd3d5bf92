//! `$CONTROL`: the node answers what clients ask of it and may ask, in the form of Mosquitto.

mod ha;

use std::sync::Arc;

use ledgermq_gateway::control::{ControlAnswers, ControlDoor, Question, UNAVAILABLE};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::mpsc::{self, Receiver};

pub(super) use ha::Ha;

/// Questions that wait for their answers; more are refused.
const QUESTIONS_MAX: usize = 64;
/// Commands of one question.
const COMMANDS_MAX: usize = 64;
const UNKNOWN: &str = "Unknown command";

/// The door for questions, and what comes through it.
pub(super) fn door() -> (ControlDoor, Receiver<Question>) {
    let (sender, receiver) = mpsc::channel(QUESTIONS_MAX);
    (Arc::new(move |question| sender.try_send(question).is_ok()), receiver)
}

/// Answers questions until the workers are gone. Each has a task of its own, for a command that waits
/// for the cluster must not hold up the others; how many wait at a time is bounded by [`Ha`].
pub(super) async fn serve(mut questions: Receiver<Question>, answers: ControlAnswers, ha: Ha) {
    let ha = Arc::new(ha);
    while let Some(Question { asker, topic, payload }) = questions.recv().await {
        if &*topic != ha::TOPIC {
            answers.reply(asker, &topic, UNAVAILABLE);
            continue;
        }
        let (ha, answers) = (Arc::clone(&ha), answers.clone());
        tokio::spawn(async move {
            let responses = respond(&payload, &ha).await;
            let answer = serde_json::json!({ "responses": responses }).to_string();
            // Whoever has a token can be a node: it is not for all who may read what is answered.
            match responses.iter().any(Response::has_secret) {
                true => answers.reply(asker, &topic, &answer),
                false => answers.publish(&topic, &answer),
            }
        });
    }
}

/// The answer to one command, with the keys in Mosquitto's order.
#[derive(Debug, PartialEq, Serialize)]
struct Response {
    command: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
    #[serde(rename = "correlationData", skip_serializing_if = "Option::is_none")]
    correlation: Option<String>,
}

impl Response {
    fn has_secret(&self) -> bool {
        self.data.as_ref().is_some_and(|data| data.get("token").is_some())
    }

    fn error(command: &str, error: impl Into<String>) -> Self {
        let (command, error) = (command.to_owned(), Some(error.into()));
        Self { command, error, data: None, correlation: None }
    }
}

/// Answers every command of a question, in their order.
async fn respond(payload: &[u8], ha: &Ha) -> Vec<Response> {
    let commands = match commands(payload) {
        Ok(commands) => commands,
        Err(error) => return vec![Response::error(UNKNOWN, error)],
    };
    let mut responses = Vec::new();
    for command in commands {
        match parse(&command) {
            Ok(asked) => responses.push(answer(asked, ha).await),
            Err(response) => {
                // What follows something that is no command is not looked at.
                responses.push(response);
                return responses;
            }
        }
    }
    responses
}

fn commands(payload: &[u8]) -> Result<Vec<Value>, &'static str> {
    let body: Value = serde_json::from_slice(payload).map_err(|_| "Payload not valid JSON")?;
    match body {
        Value::Object(mut body) => match body.remove("commands") {
            Some(Value::Array(commands)) if commands.len() <= COMMANDS_MAX => Ok(commands),
            _ => Err("Invalid/missing commands"),
        },
        _ => Err("Invalid/missing commands"),
    }
}

/// One command of a question.
struct Asked<'a> {
    /// As it was written.
    name: &'a str,
    correlation: Option<&'a str>,
    fields: &'a Map<String, Value>,
}

fn parse(command: &Value) -> Result<Asked<'_>, Response> {
    let fields =
        command.as_object().ok_or_else(|| Response::error(UNKNOWN, "Command not an object"))?;
    let name = fields.get("command").and_then(Value::as_str);
    let name = name.ok_or_else(|| Response::error(UNKNOWN, "Missing command"))?;
    let correlation = match fields.get("correlationData") {
        None => None,
        Some(Value::String(text)) => Some(text.as_str()),
        Some(_) => return Err(Response::error(name, "Invalid correlationData data type.")),
    };
    Ok(Asked { name, correlation, fields })
}

async fn answer(asked: Asked<'_>, ha: &Ha) -> Response {
    let mut response = match ha.answer(asked.name, asked.fields).await {
        // With data the name is spelled as it should be, else as it was.
        Ok(Some((name, data))) => {
            let (command, data) = (name.to_owned(), Some(data));
            Response { command, error: None, data, correlation: None }
        }
        Ok(None) => {
            let command = asked.name.to_owned();
            Response { command, error: None, data: None, correlation: None }
        }
        Err(error) => Response::error(asked.name, error),
    };
    response.correlation = asked.correlation.map(ToOwned::to_owned);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer to `payload` of a node that leads alone.
    fn ask(payload: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let options = ledgermq_log::Options::new(dir.path(), 1);
        let (log, _thread) = ledgermq_log::open(options).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let responses = runtime.block_on(respond(payload.as_bytes(), &Ha::new(log.clone())));
        log.stop();
        serde_json::to_string(&responses).unwrap()
    }

    #[test]
    fn what_is_no_question_is_answered_as_mosquitto_does() {
        for (payload, expected) in [
            ("{", r#"[{"command":"Unknown command","error":"Payload not valid JSON"}]"#),
            ("[]", r#"[{"command":"Unknown command","error":"Invalid/missing commands"}]"#),
            ("{}", r#"[{"command":"Unknown command","error":"Invalid/missing commands"}]"#),
            (r#"{"commands":[]}"#, "[]"),
            (
                r#"{"commands":[7,{"command":"isLeader"}]}"#,
                r#"[{"command":"Unknown command","error":"Command not an object"}]"#,
            ),
            (
                r#"{"commands":[{"name":"isLeader"}]}"#,
                r#"[{"command":"Unknown command","error":"Missing command"}]"#,
            ),
            (
                r#"{"commands":[{"command":"x","correlationData":7}]}"#,
                r#"[{"command":"x","error":"Invalid correlationData data type."}]"#,
            ),
        ] {
            assert_eq!(ask(payload), expected, "{payload}");
        }
    }

    #[test]
    fn commands_are_answered_in_their_order_whatever_became_of_those_before() {
        let payload = r#"{"commands":[
            {"command":"nonsense","correlationData":"a"},
            {"command":"ISLEADER","correlationData":"b"},
            {"command":"isLeader","now":true},
            {"command":"createCluster","clustername":"c","nodes":[]}
        ]}"#;
        let answer = ask(payload);
        let responses: Vec<Value> = serde_json::from_str(&answer).unwrap();
        assert_eq!(
            responses[0],
            serde_json::json!({
                "command": "nonsense", "error": "Unknown command", "correlationData": "a",
            })
        );
        assert!(
            answer.contains(
                r#"{"command":"isLeader","data":{"isLeader":true},"correlationData":"b"}"#
            ),
            "{answer}"
        );
        assert!(responses[2]["error"].as_str().unwrap().contains("now"), "{answer}");
        assert!(responses[3]["error"].as_str().unwrap().contains("ledgermq cluster"), "{answer}");
    }
}
