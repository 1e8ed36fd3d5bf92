//! Tests of the crate's public face, in one binary: linking costs more than running.

#[expect(clippy::unwrap_used, clippy::panic, reason = "tests fail that way")]
mod all {
    mod access;
    mod batches;
    mod differential;
    mod fields;
    mod fuzz;
    mod generate;
    mod golden;
    mod malformed;
    mod notation;
    mod packets;
    mod topics;
    #[expect(clippy::panic, reason = "a transcript that cannot be read fails that way")]
    mod transcripts;
}
