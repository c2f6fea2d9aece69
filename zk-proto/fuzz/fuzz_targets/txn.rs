//! Fuzzes the entry point `txn`; see `tests/support/entry_points.rs`.
#![no_main]

#[path = "../../tests/support/entry_points.rs"]
#[allow(dead_code, reason = "each target uses one of the entry points")]
mod entry_points;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry_points::txn(data));
