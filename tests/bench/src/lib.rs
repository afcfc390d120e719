//! What load, costs and stories share: people with an authenticator app, CPU time, the page of the figures.

pub mod cpu;
pub mod page;
pub mod people;
