//! Payloads in JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

/// Bytes of a payload that are shown.
const SHOWN_BYTES: usize = 1024;

/// A payload: text if it is UTF-8, else base64; no more than its beginning if it is long.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Payload {
    payload: String,
    payload_encoding: &'static str,
    payload_bytes: usize,
    payload_is_cut: bool,
}

impl From<&[u8]> for Payload {
    fn from(payload: &[u8]) -> Self {
        let shown = &payload[..payload.len().min(SHOWN_BYTES)];
        let (text, encoding) = match str::from_utf8(shown) {
            Ok(text) => (text.to_owned(), "utf-8"),
            // Cut within a character.
            Err(error) if error.error_len().is_none() && shown.len() < payload.len() => {
                (String::from_utf8_lossy(&shown[..error.valid_up_to()]).into_owned(), "utf-8")
            }
            Err(_) => (STANDARD.encode(shown), "base64"),
        };
        Self {
            payload: text,
            payload_encoding: encoding,
            payload_bytes: payload.len(),
            payload_is_cut: shown.len() < payload.len(),
        }
    }
}
