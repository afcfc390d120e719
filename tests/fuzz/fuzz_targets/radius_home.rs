//! Any history of a home server's port: requests, answers, losses, forgeries, waits. The model is that of the property test.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../../crates/radius-wire/tests/model/home.rs"]
mod model;

fuzz_target!(|history: &[u8]| model::run(history));
