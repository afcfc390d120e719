//! What was read from another system's file, as rows for the store. The command line imports by it too.

use otp::import::{Token, User};
use proto::user_store::{TokenRow, UserRow};

/// Tokens with the places they had in the file. `unassigned` leaves out whose they are.
pub fn of_tokens(tokens: Vec<(u32, Token)>, unassigned: bool) -> Vec<TokenRow> {
    let row = |(row, token): (u32, Token)| TokenRow {
        row,
        serial: token.serial,
        seed: Some(token.seed.into()),
        kind: token.kind.code().to_owned(),
        algorithm: token.algorithm.code().to_owned(),
        digits: token.digits.into(),
        period_seconds: token.period_seconds,
        counter: token.counter,
        username: if unassigned { String::new() } else { token.username },
        manufacturer: token.manufacturer,
        model: token.model,
    };
    tokens.into_iter().map(row).collect()
}

pub fn of_users(users: Vec<(u32, User)>) -> Vec<UserRow> {
    let row = |(row, user): (u32, User)| UserRow {
        row,
        username: user.username,
        fields: user.fields.into_iter().map(|(field, value)| (field.to_owned(), value)).collect(),
    };
    users.into_iter().map(row).collect()
}
