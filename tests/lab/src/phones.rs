//! Counterparts for people's phones: whoever carries calls to them, and what they do with them. Each has a control side.

pub mod ari;
mod http;
pub mod pi;
pub mod twiml;
