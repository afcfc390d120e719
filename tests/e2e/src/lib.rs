//! What the stories share: the sample company with the product before it, directories of other makes, an application that speaks LDAP octet by
//! octet, a device that speaks RADIUS the same way, a browser without script, and a way to tell many sentences about one set of servers.

mod application;
mod balancer;
mod company;
mod device;
mod outside;
mod pocket;
mod secrets;
mod switchboard;
mod upstream;
mod visitor;

pub use application::{Application, code_of};
pub use balancer::{Balancer, Captured};
pub use company::{Distributed, OneMachine, socket_address};
pub use device::{Answer, Device, Exchange};
pub use outside::{Outside, attempt_ended, last_attempt};
pub use pocket::Pocket;
pub use secrets::{Secrets, forms, read_all};
pub use switchboard::{Habit, Switchboard};
pub use upstream::{BULK, Before, Make, Upstream};
pub use visitor::Visitor;

use futures::FutureExt;
use std::{any::Any, io::Write, panic::AssertUnwindSafe, time::Instant};

/// Tells sentences about one world, each a function `async fn(&World) -> anyhow::Result<()>` named as the sentence.
/// A failed one does not keep the others from being told; the story fails with the names of all that did.
#[macro_export]
macro_rules! story {
    ($world:expr; $($sentence:ident),+ $(,)?) => {{
        let mut told = $crate::Told::default();
        $(told.tell(stringify!($sentence), $sentence($world)).await;)+
        told.finish()
    }};
}

#[derive(Default)]
pub struct Told {
    failed: Vec<String>,
}

impl Told {
    pub async fn tell(&mut self, name: &str, sentence: impl Future<Output = anyhow::Result<()>>) {
        let begin = Instant::now();
        let error = match AssertUnwindSafe(sentence).catch_unwind().await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{error:#}")),
            Err(panic) => Some(text(&*panic)),
        };
        let mark = if error.is_some() { "FAIL" } else { "ok  " };
        say(&format!("{mark} {} ({:.1} s)", name.replace('_', " "), begin.elapsed().as_secs_f32()));
        if let Some(error) = error {
            say(&format!("     {error}"));
            self.failed.push(name.replace('_', " "));
        }
    }

    pub fn finish(self) -> anyhow::Result<()> {
        anyhow::ensure!(self.failed.is_empty(), "not so: {}", self.failed.join("; "));
        Ok(())
    }
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}

/// A line for whoever watches.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
