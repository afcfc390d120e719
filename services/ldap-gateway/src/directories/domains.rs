//! The domains of a directory that administrators look through: its own, and those beside it whose people have their identity by it
//! (FD-02).
//!
//! Other domains are asked beside each other, and not for long: one that is silent makes the answer partial, and the answer says so.

use crate::settings::SettingsCopy;
use directory::Directory;
use futures::future::{BoxFuture, join, join_all};
use ldap_wire::Dn;
use service_kit::chain;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;

/// For all other domains together, of the time that a question has.
const OTHERS_LIMIT: Duration = Duration::from_secs(30);

pub(super) struct Domains {
    own: Domain,
    others: Vec<Domain>,
    /// Which could not be asked, and why.
    unread: Vec<String>,
    until: Instant,
}

pub(super) struct Domain {
    pub directory: Arc<Directory>,
    /// Of another than the directory's own: long, in lower case.
    name: Option<String>,
    /// Why it gave no answer, from the moment that it did not.
    failed: OnceLock<String>,
}

impl Domains {
    /// All of them. `home` is ready.
    pub async fn of(settings: &SettingsCopy, home: Arc<Directory>) -> Self {
        let until = Instant::now() + OTHERS_LIMIT;
        let listed = tokio::time::timeout_at(until, settings.other_domains(&home)).await;
        let (others, mut unread) = match listed {
            Ok(Ok(others)) => (others.used, Vec::new()),
            Ok(Err(error)) => (Vec::new(), vec![unlisted(&chain(&error))]),
            Err(_) => (Vec::new(), vec![unlisted(&slow())]),
        };
        let mut used = Vec::new();
        for other in others {
            match other.directory {
                Ok(directory) => used.push(Domain::new(directory, Some(other.dns_name))),
                Err(error) => unread.push(could_not_be_read(&other.dns_name, &chain(&error))),
            }
        }
        Self { own: Domain::new(home, None), others: used, unread, until }
    }

    pub fn own(&self) -> &Domain {
        &self.own
    }

    pub fn all(&self) -> impl Iterator<Item = &Domain> {
        std::iter::once(&self.own).chain(&self.others)
    }

    /// Why there may be more.
    pub fn unread(&self) -> &[String] {
        &self.unread
    }

    pub fn are_several(&self) -> bool {
        !self.others.is_empty()
    }

    /// The one that this name lies in; the directory's own where it lies in no other.
    pub fn holding(&self, dn: &Dn) -> &Domain {
        let domain = dn.dns_domain();
        self.others.iter().find(|other| other.name() == domain.as_deref()).unwrap_or(&self.own)
    }

    /// The one that somebody was found in.
    pub fn with(&self, directory: &Arc<Directory>) -> &Domain {
        self.others.iter().find(|other| Arc::ptr_eq(&other.directory, directory)).unwrap_or(&self.own)
    }

    /// Asks all of them. What is wrong at home is an error, what is wrong elsewhere is told beside what the others say.
    pub async fn each<'d, T>(
        &'d self,
        ask: impl Fn(&'d Domain) -> BoxFuture<'d, Result<T, Status>>,
    ) -> Result<(Vec<T>, Vec<String>), Status> {
        let (own, others) = join(ask(&self.own), self.each_beside(&self.own, &ask)).await;
        let (mut answers, unread) = others;
        answers.insert(0, own?);
        Ok((answers, unread))
    }

    /// Asks all but this one.
    pub async fn each_beside<'d, T>(
        &'d self,
        at: &Domain,
        ask: impl Fn(&'d Domain) -> BoxFuture<'d, Result<T, Status>>,
    ) -> (Vec<T>, Vec<String>) {
        let others = self.all().filter(|other| !std::ptr::eq(*other, at));
        let asked = others.map(async |other| (other, self.answer(other, &ask).await));
        let (mut answers, mut unread) = (Vec::new(), self.unread.clone());
        for (other, answer) in join_all(asked).await {
            match answer {
                Ok(answer) => answers.push(answer),
                Err(why) => unread.push(other.unread(&why)),
            }
        }
        (answers, unread)
    }

    /// Asks this one. Whoever waited for it in vain once does not wait again.
    pub async fn answer<'d, T>(
        &'d self,
        domain: &'d Domain,
        ask: impl Fn(&'d Domain) -> BoxFuture<'d, Result<T, Status>>,
    ) -> Result<T, String> {
        if let Some(why) = domain.failed.get() {
            return Err(why.clone());
        }
        let why = match tokio::time::timeout_at(self.until, ask(domain)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(status)) => status.message().to_owned(),
            Err(_) => slow(),
        };
        Err(domain.failed.get_or_init(|| why).clone())
    }
}

impl Domain {
    fn new(directory: Arc<Directory>, name: Option<String>) -> Self {
        Self { directory, name, failed: OnceLock::new() }
    }

    /// The long name of another domain than the directory's own.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub fn unread(&self, why: &str) -> String {
        let own = || self.directory.base().dns_domain().unwrap_or_default();
        could_not_be_read(&self.name().map_or_else(own, str::to_owned), why)
    }
}

fn could_not_be_read(domain: &str, why: &str) -> String {
    format!("the domain {domain} could not be read: {why}")
}

fn unlisted(why: &str) -> String {
    format!("the other domains could not be listed: {why}")
}

fn slow() -> String {
    format!("there was no answer within {} seconds", OTHERS_LIMIT.as_secs())
}

#[cfg(test)]
impl Domains {
    /// Their servers are nobody's.
    pub fn of_bases(own: &str, others: &[&str]) -> Self {
        let directory = |base: &str| {
            let settings = serde_json::json!({
                "name": "corp", "preset": "active_directory", "urls": ["ldap://127.0.0.1:9"], "base": base,
                "query_bind": { "kind": "anonymous" }, "danger_clear_text": true,
                "authentication_bind": { "kind": "simple" },
            });
            let settings = serde_json::from_value(settings).expect("settings");
            Arc::new(Directory::draft(settings, None).expect("good settings"))
        };
        let other = |base: &&str| Domain::new(directory(base), base.parse::<Dn>().expect("a DN").dns_domain());
        let others = others.iter().map(other).collect();
        Self { own: Domain::new(directory(own), None), others, unread: Vec::new(), until: Instant::now() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn a_domain_that_gave_no_answer_is_told_of_and_not_waited_for_again() {
        // FD-02
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        fn ask(domain: &Domain) -> BoxFuture<'_, Result<u8, Status>> {
            let answer = match domain.name() {
                None => Ok(1),
                Some(_) => {
                    ASKED.fetch_add(1, Ordering::Relaxed);
                    Err(Status::unavailable("silent"))
                }
            };
            std::future::ready(answer).boxed()
        }
        let domains = Domains::of_bases("DC=corp,DC=example", &["DC=child,DC=corp,DC=example"]);
        for _ in 0..2 {
            let (answers, unread) = domains.each(ask).await.expect("home answers");
            assert_eq!(answers, [1]);
            assert_eq!(unread, ["the domain child.corp.example could not be read: silent"]);
        }
        assert_eq!(ASKED.load(Ordering::Relaxed), 1);
    }
}
