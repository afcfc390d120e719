//! The gateway from outside: a device asks by UDP, and what reached directory and verification is counted.

mod accounting;
mod challenges;
mod duplicates;
mod fail_open;
mod home_servers;
mod life;
mod logins;
mod look_alikes;
mod observed;
mod overload;
mod radsec;
mod receive;
mod second_factors;
#[path = "../support/mod.rs"]
mod support;
mod with_slapd;
