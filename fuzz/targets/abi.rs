//! What the C ABI says of a subtree.
#![no_main]

#[path = "../../tests/common/counting.rs"]
mod counting;
#[expect(dead_code, reason = "it has the checks of all targets")]
#[path = "../../tests/common/parsers.rs"]
mod parsers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parsers::check_abi(bytes));
