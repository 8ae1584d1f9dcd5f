//! See `fuzz_checks::TARGETS`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz_checks::run("agent_hardware", input));
