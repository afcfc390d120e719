//! Counterparts of those who carry messages to people. Each does its part by the book until its mood changes.

pub mod ari;
mod http;
mod http_sms;
pub mod pi;
mod smsc;
mod smtp_sink;
pub mod twiml;

pub use http_sms::{HttpSms, HttpSmsRequest};
pub use smsc::{IndependentSmsc, Smsc, SmscMessage};
pub use smtp_sink::{ReceivedMail, SmtpSink};

/// How a counterpart behaves from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mood {
    #[default]
    Accept,
    /// So many milliseconds late, then as by the book.
    Delay(u64),
    /// Takes what comes and hangs up.
    Drop,
    /// Says everything twice.
    Double,
    Refuse,
    /// Says what is not true.
    Lie,
}
