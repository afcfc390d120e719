//! The gateway through `Gateway::start` on free ports: a real slapd or a scripted directory behind it, raw and real clients in
//! front, verification and settings that misbehave on command.

mod support;

mod anomalies;
mod bind_controls;
mod connections;
mod directories;
mod fail_open;
mod farewells;
mod forwarding;
mod gate_model;
mod hostile_directory;
mod identity_model;
mod logins;
mod makes;
mod other_domains;
mod password_check;
mod password_stamp;
mod pressure;
mod recorder;
mod root_entry;
mod sasl;
mod second_factors;
mod shut_out;
mod spellings;
mod timing;
mod windows;
