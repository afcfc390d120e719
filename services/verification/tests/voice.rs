//! Phone calls over a vendor and a PBX that do as a test says, and misbehave on command. The store keeps its contract in memory.

mod prompts;

#[path = "voice/asterisk.rs"]
mod asterisk;
#[path = "voice/vendor.rs"]
mod vendor;

use domain::{Language, PhoneNumber};
use proto::user_store::Prompt;
use verification::{Accepted, BackupPhone, Callee, SendFailure, Service};

/// Whom a test calls.
#[derive(Clone, Copy, Default)]
struct Ann {
    pin: bool,
    new_pin: bool,
    backup: bool,
    extension: &'static str,
    language: Option<&'static str>,
}

async fn call(node: &Service, prompt: &Prompt, ann: Ann) -> Result<Accepted, SendFailure> {
    let (first, second) = (number("+4930901820"), number("+4930901821"));
    let language = Language::new(ann.language.unwrap_or("en")).expect("valid");
    let callee = Callee {
        to: &first,
        extension: ann.extension,
        backup: ann.backup.then_some(BackupPhone { to: &second, extension: "" }),
        language: &language,
        pin: ann.pin,
        new_pin: ann.new_pin,
        activation: false,
    };
    node.carriers().call(prompt, callee).await
}

fn number(text: &str) -> PhoneNumber {
    PhoneNumber::new(text).expect("valid")
}
