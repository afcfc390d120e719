//! What load, costs and stories share: people with an authenticator app, their logins, load and overload, CPU time, the page of the figures.

pub mod cpu;
pub mod ldap;
pub mod load;
pub mod overload;
pub mod page;
pub mod people;
pub mod ports;
pub mod radius;
