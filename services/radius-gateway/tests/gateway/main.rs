//! The gateway from outside: a device asks by UDP, and what reached directory and verification is counted.

mod challenges;
mod duplicates;
mod fail_open;
mod life;
mod logins;
mod receive;
mod second_factors;
#[path = "../support/mod.rs"]
mod support;
mod with_slapd;
