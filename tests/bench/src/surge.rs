//! Far more logins than the product can serve.

use crate::world::{World, say};
use anyhow::Result;
use bench::{
    overload::{self, By, Plan, Server},
    page,
};
use clap::Args;
use lab::{COMPANY_BASE, RADIUS_SECRET};
use std::{path::Path, time::Duration};

#[derive(Debug, Args)]
pub struct Surge {
    /// Everybody has a code every 30 s: sixty for each login a second of the capacity are enough.
    #[arg(long, default_value_t = 100_000)]
    people: usize,
    /// So long there is twice the capacity.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// So long half of it before, and as long the capacity is measured.
    #[arg(long, default_value_t = 10)]
    calm_seconds: u64,
    /// So long half of it behind.
    #[arg(long, default_value_t = 60)]
    after_seconds: u64,
    #[arg(long, value_enum, default_values_t = [By::Radius])]
    by: Vec<By>,
}

pub async fn run(surge: &Surge, page: Option<&Path>) -> Result<()> {
    let world = World::with_tokens(surge.people).await?;
    let server = Server {
        pid: world.pid,
        radius: world.radius_at(),
        radius_secret: RADIUS_SECRET.into(),
        ldap: world.ldap_at(),
        ldap_base: COMPANY_BASE.into(),
    };
    let plan = Plan {
        workers: 64,
        calm: Duration::from_secs(surge.calm_seconds),
        overload: Duration::from_secs(surge.seconds),
        after: Duration::from_secs(surge.after_seconds),
    };
    let mut outcomes = Vec::new();
    for &by in &surge.by {
        let outcome = overload::run(&server, world.people.clone(), by, plan).await?;
        outcomes.push((by, outcome));
        say(&overload::table(&outcomes));
    }
    page::show(page, "overload", &overload::table(&outcomes))
}
