//! Phones that run the web app, and a push service that does as a test says. The store keeps its contract in memory.

mod prompts;

#[path = "push/activation.rs"]
mod activation;
#[path = "push/answers.rs"]
mod answers;
#[path = "push/passkeys.rs"]
mod passkeys;
#[path = "push/phone.rs"]
mod phone;
#[path = "push/waking.rs"]
mod waking;
