//! What load and stories share: people with an authenticator app.

pub mod people;
