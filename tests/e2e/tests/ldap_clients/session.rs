//! One session twice, with the directory itself and through the gateway, message by message.
//!
//! What the directory answers stands in a file for each make beside this one, so that two equal errors are not taken for success; what
//! differs through the gateway stands there too, with the rule that demands it. `TWINLOCK_RENEW=1` writes the files anew.

use crate::requests::{Request, bind, message_id};
use anyhow::{Context, Result, bail, ensure};
use e2e::{Application, Before, Make, Upstream};
use ldap_wire::{LdapResult, Message, MessageId, Op, SearchResultEntry};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A connection, by LDAPS, and all that was heard on it.
pub struct Session<'a> {
    pub upstream: &'a Upstream,
    application: Application,
    last_id: u32,
    /// Of these nothing is heard any more, if the other side keeps its word.
    given_up: Vec<u32>,
    keeps_its_word: bool,
    said: Vec<Said>,
}

struct Said {
    what: String,
    messages: Vec<Message>,
    closed: bool,
}

impl<'a> Session<'a> {
    pub async fn direct(world: &'a Before) -> Result<Self> {
        let upstream = &world.upstream;
        let application = Application::connect_tls(&upstream.ldaps_url(), HERE, upstream.ca_file()).await?;
        // Not every directory does.
        Ok(Self::on(application, upstream, false))
    }

    pub async fn through(world: &'a Before) -> Result<Self> {
        let trusted = world.twinlock.certificate_file();
        let application = Application::connect_tls(&world.twinlock.ldaps_url(), HERE, &trusted).await?;
        Ok(Self::on(application, &world.upstream, true))
    }

    fn on(application: Application, upstream: &'a Upstream, keeps_its_word: bool) -> Self {
        Self { upstream, application, last_id: 0, given_up: Vec::new(), keeps_its_word, said: Vec::new() }
    }

    /// As the account that may do everything, and is exempt.
    pub async fn bind(&mut self) -> Result<()> {
        let (name, password) = self.upstream.manager;
        let answer = self.ask("bind", &bind(3, name, password)).await?;
        let answer = answer.first().context("no answer to the bind")?;
        let result = LdapResult::decode(answer)?;
        ensure!(result.is_success(), "the exempt account cannot bind: {} {}", result.code.0, result.diagnostic_text());
        Ok(())
    }

    /// A name below the base.
    pub fn below(&self, rdn: &str) -> String {
        format!("{rdn},{}", self.upstream.base)
    }

    pub fn make(&self) -> Make {
        self.upstream.make
    }

    /// Sends it and hears it out.
    pub async fn ask(&mut self, what: &str, request: &Request) -> Result<Vec<Message>> {
        let id = self.send(request).await?;
        self.hear(what, id).await
    }

    /// Sends it only; its message id.
    pub async fn send(&mut self, request: &Request) -> Result<u32> {
        self.last_id += 1;
        self.application.send(&request.encode(self.last_id)).await?;
        Ok(self.last_id)
    }

    /// Sends all of them at once; their message ids.
    pub async fn send_all(&mut self, requests: &[Request]) -> Result<Vec<u32>> {
        let first = self.last_id + 1;
        self.last_id += u32::try_from(requests.len())?;
        let ids: Vec<u32> = (first..=self.last_id).collect();
        let octets: Vec<u8> = ids.iter().zip(requests).flat_map(|(id, request)| request.encode(*id)).collect();
        self.application.send(&octets).await?;
        Ok(ids)
    }

    /// Everything up to the end of this operation.
    pub async fn hear(&mut self, what: &str, id: u32) -> Result<Vec<Message>> {
        self.hear_until(what, id, |_| false).await
    }

    /// Everything of this operation up to its end, or to the message that is enough.
    pub async fn hear_until(&mut self, what: &str, id: u32, enough: impl Fn(&Message) -> bool) -> Result<Vec<Message>> {
        let mut messages = Vec::new();
        let mut closed = false;
        loop {
            let Some(message) = self.application.receive().await.with_context(|| what.to_owned())? else {
                closed = true;
                break;
            };
            if !self.keeps_its_word && self.given_up.contains(&message.id().get()) {
                continue;
            }
            let unsolicited = message.id() == MessageId::UNSOLICITED;
            ensure!(
                unsolicited || message.id() == message_id(id)?,
                "{what}: an answer to {}, not to {id}",
                message.id()
            );
            let end = !is_part(&message) || enough(&message);
            messages.push(message);
            if end && !unsolicited {
                break;
            }
        }
        self.said.push(Said { what: what.into(), messages: messages.clone(), closed });
        Ok(messages)
    }

    /// Everything up to the ends of all these operations, whose answers may be mixed.
    pub async fn hear_all(&mut self, what: &str, ids: &[u32]) -> Result<()> {
        let mut answers: BTreeMap<u32, Vec<Message>> = ids.iter().map(|id| (*id, Vec::new())).collect();
        let mut open = ids.len();
        while open > 0 {
            let message = self.application.receive().await?.with_context(|| format!("{what}: closed"))?;
            let answer = answers.get_mut(&message.id().get());
            let answer = answer.with_context(|| format!("{what}: an answer to {}", message.id()))?;
            open -= usize::from(!is_part(&message));
            answer.push(message);
        }
        let messages = answers.into_values().flatten().collect();
        self.said.push(Said { what: what.into(), messages, closed: false });
        Ok(())
    }

    /// Passes over what may still come of an operation that was given up: nobody can say how much that is.
    pub async fn hear_behind(&mut self, what: &str, given_up: u32, id: u32) -> Result<()> {
        loop {
            let message = self.application.receive().await?.with_context(|| format!("{what}: closed"))?;
            if message.id() == message_id(id)? {
                self.given_up.push(given_up);
                self.said.push(Said { what: what.into(), messages: vec![message], closed: false });
                return Ok(());
            }
            let may_come = message.id() == message_id(given_up)? || self.given_up.contains(&message.id().get());
            ensure!(may_come, "{what}: an answer to {}", message.id());
        }
    }

    /// The other side says no more and hangs up.
    pub async fn hear_close(&mut self, what: &str) -> Result<()> {
        if let Some(message) = self.application.receive().await? {
            bail!("{what}: {:?} instead of a close", message.op());
        }
        self.said.push(Said { what: what.into(), messages: Vec::new(), closed: true });
        Ok(())
    }
}

fn is_part(message: &Message) -> bool {
    matches!(message.op(), Op::SearchResultEntry | Op::SearchResultReference | Op::IntermediateResponse)
}

/// What differs through the gateway, and by which rule (docs/operating/ldap-differences.md).
pub struct Differences(pub &'static [(&'static str, &'static str)]);

/// What was compared so far.
pub struct Report {
    make: Make,
    differences: Differences,
    text: String,
    wrong: Vec<String>,
    pub messages: usize,
}

impl Report {
    pub fn new(make: Make, differences: Differences) -> Self {
        Self { make, differences, text: String::new(), wrong: Vec::new(), messages: 0 }
    }

    pub fn compare(&mut self, part: &str, direct: Session<'_>, through: Session<'_>) {
        let part = part.replace('_', " ");
        writeln!(self.text, "{}# {part}", if self.text.is_empty() { "" } else { "\n" }).expect("writing to a string");
        if direct.said.len() != through.said.len() {
            self.wrong.push(format!("{part}: {} steps, {} through the gateway", direct.said.len(), through.said.len()));
        }
        for (theirs, ours) in direct.said.iter().zip(&through.said) {
            self.step(&part, theirs, ours);
        }
    }

    pub fn failed(&mut self, part: &str, told: Result<()>) {
        self.wrong.extend(told.err().map(|error| format!("{}: {error:#}", part.replace('_', " "))));
    }

    fn step(&mut self, part: &str, theirs: &Said, ours: &Said) {
        let what = &theirs.what;
        self.messages += theirs.messages.len();
        writeln!(self.text, "{what}: {}", summary(theirs)).expect("writing to a string");
        if ours.what != *what {
            return self.wrong.push(format!("{part}: \"{}\" instead of \"{what}\"", ours.what));
        }
        let octets = |said: &Said| said.messages.iter().map(|message| message.octets().clone()).collect::<Vec<_>>();
        if octets(ours) == octets(theirs) && ours.closed == theirs.closed {
            return;
        }
        let differs = difference(theirs, ours);
        let known = self.differences.0.iter().find(|(step, _)| step == what).map(|(_, rule)| *rule);
        match known.or(only_references_dropped(theirs, ours).then_some("L-17")) {
            Some(rule) => {
                writeln!(self.text, "  {rule}, through the gateway: {}", differs.join("\n    "))
                    .expect("writing to a string");
            }
            None => self.wrong.push(format!("{part}, {what}: {}; directly: {}", differs.join("; "), summary(theirs))),
        }
    }

    /// Nothing differed but by a rule, and everything was as the file says.
    pub fn finish(self) -> Result<()> {
        let file = format!("tests/e2e/tests/ldap_clients/{}.txt", format!("{:?}", self.make).to_lowercase());
        let file: PathBuf = lab::repository().join(file);
        if std::env::var_os("TWINLOCK_RENEW").is_some() {
            fs::write(&file, &self.text)?;
        }
        ensure!(self.wrong.is_empty(), "\n  {}", self.wrong.join("\n  "));
        let known = fs::read_to_string(&file).unwrap_or_default();
        let line = known.lines().zip(self.text.lines()).find(|(known, now)| known != now);
        ensure!(
            known == self.text,
            "{} says something else, first {line:?}; TWINLOCK_RENEW=1 writes it anew",
            file.display()
        );
        Ok(())
    }
}

/// References name the real servers (L-17): any search may have some.
fn only_references_dropped(theirs: &Said, ours: &Said) -> bool {
    let rest = theirs.messages.iter().filter(|message| message.op() != Op::SearchResultReference);
    ours.closed == theirs.closed && rest.map(Message::octets).eq(ours.messages.iter().map(Message::octets))
}

/// How many of what, how it ended, and with which controls.
fn summary(said: &Said) -> String {
    let mut parts = Vec::new();
    for (op, one, many) in [
        (Op::SearchResultEntry, "entry", "entries"),
        (Op::SearchResultReference, "reference", "references"),
        (Op::IntermediateResponse, "intermediate response", "intermediate responses"),
    ] {
        match said.messages.iter().filter(|message| message.op() == op).count() {
            0 => {}
            1 => parts.push(format!("1 {one}")),
            count => parts.push(format!("{count} {many}")),
        }
    }
    let mut ends: Vec<(String, usize)> = Vec::new();
    for message in said.messages.iter().filter(|message| !is_part(message)) {
        let end = ending(message);
        match ends.last_mut().filter(|(last, _)| *last == end) {
            Some((_, times)) => *times += 1,
            None => ends.push((end, 1)),
        }
    }
    parts.extend(ends.into_iter().map(|(end, times)| if times == 1 { end } else { format!("{times} times {end}") }));
    let controls: Vec<String> = said.messages.iter().flat_map(controls).collect();
    let mut distinct = controls;
    distinct.sort();
    distinct.dedup();
    if !distinct.is_empty() {
        parts.push(format!("controls {}", distinct.join(" ")));
    }
    if said.closed {
        parts.push("closed".into());
    }
    parts.join(", ")
}

fn controls(message: &Message) -> Vec<String> {
    message.controls().unwrap_or_default().into_iter().map(|control| control.oid).collect()
}

fn ending(message: &Message) -> String {
    let Ok(result) = LdapResult::decode(message) else { return format!("{:?}", message.op()) };
    let mut text = result.code.0.to_string();
    if !result.matched_dn.is_empty() {
        write!(text, " below {}", String::from_utf8_lossy(&result.matched_dn)).expect("writing to a string");
    }
    if let Some(urls) = &result.referral {
        write!(text, " with {} referrals", urls.len()).expect("writing to a string");
    }
    text
}

/// In words: how the answer through the gateway differs.
fn difference(theirs: &Said, ours: &Said) -> Vec<String> {
    let mut lines = vec![summary(ours)];
    let entries = |said: &Said| -> Vec<SearchResultEntry> {
        said.messages.iter().filter_map(|message| SearchResultEntry::decode(message).ok()).collect()
    };
    let (before, after) = (entries(theirs), entries(ours));
    for (before, after) in before.iter().zip(&after).filter(|(before, after)| before != after) {
        lines.extend(entry_difference(before, after));
    }
    let diagnostics = |said: &Said| -> Vec<String> {
        let results = said.messages.iter().filter_map(|message| LdapResult::decode(message).ok());
        results.map(|result| result.diagnostic_text().trim_end_matches('\0').to_owned()).collect()
    };
    for (before, after) in diagnostics(theirs).iter().zip(&diagnostics(ours)).filter(|(before, after)| before != after)
    {
        lines.push(format!("text \"{after}\", not \"{before}\""));
    }
    if lines.len() == 1 && summary(theirs) == summary(ours) {
        let place =
            theirs.messages.iter().zip(&ours.messages).position(|(theirs, ours)| theirs.octets() != ours.octets());
        lines.push(format!("message {place:?} differs"));
        if let Some((theirs, ours)) = place.and_then(|place| theirs.messages.get(place).zip(ours.messages.get(place))) {
            let start = |message: &Message| format!("{:02x?}", message.octets().get(..400).unwrap_or(message.octets()));
            lines.push(format!("{} instead of {}", start(ours), start(theirs)));
        }
    }
    lines
}

fn entry_difference(before: &SearchResultEntry, after: &SearchResultEntry) -> Vec<String> {
    let mut lines = Vec::new();
    let text = |values: Vec<&bytes::Bytes>| -> String {
        let short = |value: &bytes::Bytes| match std::str::from_utf8(value) {
            Ok(text) if text.len() < 100 => text.to_owned(),
            _ => format!("{} octets", value.len()),
        };
        values.into_iter().map(short).collect::<Vec<_>>().join(" ")
    };
    for attribute in &before.attributes {
        let name = &attribute.description;
        let Some(kept) = after.attribute(name) else {
            lines.push(format!("no {name}"));
            continue;
        };
        let gone: Vec<_> = attribute.values.iter().filter(|value| !kept.values.contains(value)).collect();
        let new: Vec<_> = kept.values.iter().filter(|value| !attribute.values.contains(value)).collect();
        if !gone.is_empty() {
            lines.push(format!("{name} without {}", text(gone)));
        }
        if !new.is_empty() {
            lines.push(format!("{name} with {}", text(new)));
        }
    }
    for attribute in after.attributes.iter().filter(|attribute| before.attribute(&attribute.description).is_none()) {
        lines.push(format!("{} added: {}", attribute.description, text(attribute.values.iter().collect())));
    }
    lines
}
