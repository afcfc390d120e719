//! The gateway from outside: a device asks by UDP, and what reached directory and verification is counted.

mod challenges;
mod duplicates;
mod life;
mod logins;
mod observed;
mod receive;
mod support;
mod with_slapd;
