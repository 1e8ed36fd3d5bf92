#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| ledgermq_fuzz::peers::peer_frame(data));
