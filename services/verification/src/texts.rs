//! What a login says to people outside the client: the text message with its code.

pub use crate::providers::sms::texts::{check_text, sms_code, sms_code_pin, sms_proof, sms_reply};
