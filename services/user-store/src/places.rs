//! Where every sealed field of a person's factors, devices and mail stands (V-30). Whoever seals, opens or seals anew asks
//! here, so that all of them mean the same place.

use crate::seal::Place;

/// The owner of what belongs to a record of a user: moved to another user or another record it does not open.
pub fn owned(user_id: &str, record_id: &str) -> String {
    format!("{user_id}/{record_id}")
}

/// `factors.seed`; the owner is [`owned`] of user and factor, with an empty user for a token of the stock.
pub fn seed(owner: &str) -> Place<'_> {
    Place { owner, record: "factor", field: "seed" }
}

/// `devices.server_key`; the owner is [`owned`] of user and device.
pub fn server_key(owner: &str) -> Place<'_> {
    Place { owner, record: "device", field: "server_key" }
}

/// `devices.subscription`; the owner is [`owned`] of user and device.
pub fn subscription(owner: &str) -> Place<'_> {
    Place { owner, record: "device", field: "subscription" }
}

/// `sent_codes.number`; the owner is [`owned`] of user and transaction.
pub fn number(owner: &str) -> Place<'_> {
    Place { owner, record: "sent_code", field: "number" }
}

/// `outbox.sealed`; the owner is the mail's id.
pub fn mail(mail_id: &str) -> Place<'_> {
    Place { owner: mail_id, record: "mail", field: "content" }
}

/// `sealed_facts.sealed`; the owner is the fact's name.
pub fn fact(name: &str) -> Place<'_> {
    Place { owner: name, record: "fact", field: "value" }
}
