//! The gateway from outside: a device asks by UDP, and what reached directory and verification is counted.

mod challenges;
mod duplicates;
mod life;
mod logins;
mod receive;
#[path = "../support/mod.rs"]
mod support;
mod with_slapd;
