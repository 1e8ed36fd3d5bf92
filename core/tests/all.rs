//! Tests of the crate's public face, in one binary: linking costs more than running.

mod all {
    mod batches;
    mod differential;
    mod generate;
    mod golden;
    mod malformed;
    mod packets;
    mod seeds;
    mod topics;
}
