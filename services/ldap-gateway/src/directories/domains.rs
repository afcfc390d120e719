//! The domains of a directory that administrators look through: its own, and those beside it whose people have their identity by it
//! (FD-02).
//!
//! Other domains are asked beside each other, and not for long: one that is silent makes the answer partial, and the answer says so.

use crate::settings::SettingsCopy;
use directory::Directory;
use futures::FutureExt;
use futures::future::{BoxFuture, join, join_all};
use ldap_wire::Dn;
use service_kit::chain;
use std::sync::Arc;
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
                Ok(directory) => used.push(Domain { directory, name: Some(other.dns_name) }),
                Err(error) => unread.push(could_not_be_read(&other.dns_name, &chain(&error))),
            }
        }
        Self { own: Domain::own(home), others: used, unread, until }
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
        let asked =
            others.map(|other| tokio::time::timeout_at(self.until, ask(other)).map(move |answer| (other, answer)));
        let (mut answers, mut unread) = (Vec::new(), self.unread.clone());
        for (other, answer) in join_all(asked).await {
            let why = match answer {
                Ok(Ok(answer)) => {
                    answers.push(answer);
                    continue;
                }
                Ok(Err(status)) => status.message().to_owned(),
                Err(_) => slow(),
            };
            unread.push(other.unread(&why));
        }
        (answers, unread)
    }
}

impl Domain {
    fn own(directory: Arc<Directory>) -> Self {
        Self { directory, name: None }
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
