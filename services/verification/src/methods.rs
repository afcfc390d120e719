//! Second-factor methods: how each is asked and checked. A file each.

pub mod code;
pub mod passkey;
pub mod pin;
pub mod prompt;
pub mod questions;
pub mod sent;
