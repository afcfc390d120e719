//! What is asked at the same time is read together: a statement a table, however many ask. Whoever asks alone does not wait for others.

use super::{USER, code_factor, groups, login_user, secrets};
use crate::commit::devices;
use crate::metrics::{Metrics, Timed};
use crate::rpc::StoreError;
use crate::rules::Rules;
use crate::seal::Seal;
use crate::sql::{Database, Row, Session};
use crate::users;
use proto::user_store::{Bypass, LoginFactsReply, LoginUser};
use service_kit::{Clock, Shutdown};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, mpsc, oneshot};

/// Questions that may wait. At the bound a call is refused as unavailable: the answer to a login is no.
const QUEUE: usize = 4096;
/// Questions that are read together.
const AT_ONCE: usize = 64;
/// What takes longer together is read one by one.
const PATIENCE: Duration = Duration::from_secs(2);
/// A database that says nothing for so long is away.
const PATIENCE_ALONE: Duration = Duration::from_secs(5);

/// Whose facts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Who {
    Subject { directory: String, object_id: String },
    User(String),
}

struct Question {
    who: Who,
    answer: oneshot::Sender<Result<LoginFactsReply, StoreError>>,
}

/// The way to those who read. Clones lead to the same.
#[derive(Clone)]
pub struct Together(mpsc::Sender<Question>);

impl Together {
    /// Starts the readers. They end when the process stops, after what they had taken.
    pub fn start(reader: Reader, shutdown: &Shutdown) -> Self {
        let (sender, questions) = mpsc::channel(QUEUE);
        let (reader, questions) = (Arc::new(reader), Arc::new(Mutex::new(questions)));
        for _ in 0..reader.database.readings() {
            let (reader, questions, ending) = (reader.clone(), questions.clone(), shutdown.clone());
            shutdown.spawn_background(async move {
                let run = || reader.clone().run(questions.clone(), ending.clone());
                // A fault of one reading must not end all that follow.
                while let Err(error) = reader.database.apart("store-facts", run()).await {
                    tracing::error!(error = %error, "a reading of facts ended before its time");
                }
            });
        }
        Self(sender)
    }

    /// An absent user is proven absent: the read succeeded and found none. A removed one is there until erased (FU-02).
    pub async fn of(&self, who: Who) -> Result<LoginFactsReply, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(Question { who, answer }).map_err(StoreError::not_taken)?;
        answered.await.map_err(|_| StoreError::Gone)?
    }
}

/// What a reading needs.
pub struct Reader {
    pub database: Database,
    pub seal: Arc<Seal>,
    pub rules: Arc<Rules>,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
}

impl Reader {
    async fn run(self: Arc<Self>, questions: Arc<Mutex<mpsc::Receiver<Question>>>, shutdown: Shutdown) {
        let mut taken = Vec::with_capacity(AT_ONCE);
        loop {
            // Cancel safety: recv_many takes nothing from the queue unless it completes.
            let count = tokio::select! {
                count = async { questions.lock().await.recv_many(&mut taken, AT_ONCE).await } => count,
                () = shutdown.stopping() => return,
            };
            // Ends with the last of those who could ask, too.
            if count == 0 {
                return;
            }
            taken.retain(|question| !question.answer.is_closed());
            let questions = std::mem::replace(&mut taken, Vec::with_capacity(AT_ONCE));
            // What cannot be read, or not in time, is perhaps the fault of one of them.
            let session = self.database.read_direct().await;
            for alone in self.answer(session, questions, PATIENCE).await {
                let reader = self.clone();
                tokio::spawn(async move {
                    let session = reader.database.read().await;
                    reader.answer(session, vec![alone], PATIENCE_ALONE).await
                });
            }
        }
    }

    /// Those that are not answered are given back, where there are several.
    async fn answer(
        &self,
        session: Result<Session, sqlx::Error>,
        questions: Vec<Question>,
        patience: Duration,
    ) -> Vec<Question> {
        let began = Instant::now();
        let read = self.read(session, questions.iter().map(|question| &question.who));
        let read = tokio::time::timeout(patience, read).await;
        let mut read = read.unwrap_or(Err(StoreError::Silent));
        if read.is_err() && questions.len() > 1 {
            return questions;
        }
        // Everybody who was found was asked about: nobody twice, where they are as many.
        let once = read.as_ref().is_ok_and(|read| read.users.len() == questions.len());
        for Question { who, answer } in questions {
            let facts = match &mut read {
                Ok(read) => read.facts(&who, &self.seal, once),
                Err(error) => Err(error.again()),
            };
            self.metrics.took(Timed::Facts, began.elapsed());
            // Nobody waits any more: nothing was changed either.
            let _ = answer.send(facts);
        }
        Vec::new()
    }

    async fn read(
        &self,
        session: Result<Session, sqlx::Error>,
        asked: impl Iterator<Item = &Who>,
    ) -> Result<Read, StoreError> {
        let mut session = session?;
        let now_ms = self.clock.now_ms();
        let (mut subjects, mut user_ids): (HashMap<&str, BTreeSet<&str>>, BTreeSet<&str>) = Default::default();
        for who in asked {
            match who {
                Who::Subject { directory, object_id } => {
                    subjects.entry(directory).or_default().insert(object_id);
                }
                Who::User(user_id) => {
                    user_ids.insert(user_id);
                }
            }
        }
        let mut rows = Vec::new();
        for (directory, object_ids) in subjects {
            let head = format!("{USER} u.directory = $1 AND u.object_id IN");
            rows.extend(session.rows_beside(&head, directory, object_ids, "").await?);
        }
        rows.extend(session.rows_in(&format!("{USER} u.user_id IN"), user_ids, "", &[]).await?);
        Read::of(&mut session, &self.rules, &rows, now_ms).await
    }
}

/// Everything that was read for those who were asked about.
#[derive(Default)]
struct Read {
    /// By directory and id.
    by_subject: HashMap<String, HashMap<String, String>>,
    users: HashMap<String, LoginUser>,
    /// Their rows, whose secrets are sealed, by user.
    factors: HashMap<String, Vec<Row>>,
    devices: HashMap<String, Vec<devices::DeviceRow>>,
    /// What was said of those about whom others may ask too.
    said: HashMap<String, Result<LoginFactsReply, StoreError>>,
}

impl Read {
    async fn of(session: &mut Session, rules: &Rules, rows: &[Row], now_ms: i64) -> Result<Self, StoreError> {
        let mut read = Self::default();
        let (mut with_secrets, mut with_devices, mut with_bypasses) = (Vec::new(), Vec::new(), Vec::new());
        let mut in_groups: HashMap<String, Vec<(String, groups::Member)>> = HashMap::new();
        let mut active = Vec::new();
        for row in rows {
            let user = login_user(row, now_ms)?;
            let user_id = user.user_id.clone();
            let directory: String = row.get("directory")?;
            let of_directory = match read.by_subject.get_mut(&directory) {
                Some(of_directory) => of_directory,
                None => read.by_subject.entry(directory.clone()).or_default(),
            };
            of_directory.insert(row.get("object_id")?, user_id.clone());
            // Nobody needs the seeds of somebody who may not log in.
            let may_log_in = user.state == "enabled" && !users::is_blocked(user.blocked_until_unix_ms, now_ms);
            if read.users.contains_key(&user_id) {
                // Asked about by both names: what was read first is whole.
                continue;
            }
            read.users.insert(user_id.clone(), user);
            if !may_log_in {
                continue;
            }
            if row.get("has_groups")? {
                in_groups.entry(directory).or_default().push((user_id.clone(), groups::Member::of(row)?));
            }
            if row.get("has_states")? || row.get("has_hashed")? {
                with_secrets.push(user_id.clone());
            }
            if row.get("has_bypasses")? {
                with_bypasses.push(user_id.clone());
            }
            if row.get("has_devices")? {
                with_devices.push(user_id.clone());
            }
            active.push(user_id);
        }
        for (directory, members) in in_groups {
            let asked: Vec<&groups::Member> = members.iter().map(|(_, member)| member).collect();
            let groups = groups::of(session, &directory, &asked).await?;
            for ((user_id, _), groups) in members.iter().zip(groups) {
                read.users.entry(user_id.clone()).and_modify(|user| user.groups = groups);
            }
        }
        secrets::read(session, rules, &mut read.users, &with_secrets, now_ms).await?;
        read.read_bypasses(session, &with_bypasses, now_ms).await?;
        let head = "SELECT user_id, factor_id, kind, serial, algorithm, digits, period_seconds, seed, last_step, drift, pending \
                    FROM factors WHERE user_id IN";
        let active = active.iter().map(String::as_str);
        for row in session.rows_in(head, active, "ORDER BY created_ms, factor_id", &[]).await? {
            read.factors.entry(row.get("user_id")?).or_default().push(row);
        }
        for device in devices::of_users(session, with_devices.iter().map(String::as_str)).await? {
            read.devices.entry(device.user_id.clone()).or_default().push(device);
        }
        Ok(read)
    }

    /// The newest bypass that is open.
    async fn read_bypasses(&mut self, session: &mut Session, of: &[String], now_ms: i64) -> Result<(), StoreError> {
        let head = "SELECT user_id, bypass_id, client, expires_ms FROM bypasses WHERE user_id IN";
        let of = of.iter().map(String::as_str);
        for row in session.rows_in(head, of, "ORDER BY created_ms DESC, bypass_id", &[]).await? {
            let expires_unix_ms: i64 = row.get("expires_ms")?;
            let user = self.users.get_mut(&row.get::<String>("user_id")?);
            if let Some(user) = user.filter(|user| user.bypass.is_none() && expires_unix_ms > now_ms) {
                let (bypass_id, client) = (row.get("bypass_id")?, row.get("client")?);
                user.bypass = Some(Bypass { bypass_id, client, expires_unix_ms });
            }
        }
        Ok(())
    }

    fn user_id<'a>(&'a self, who: &'a Who) -> Option<&'a str> {
        match who {
            Who::Subject { directory, object_id } => Some(self.by_subject.get(directory)?.get(object_id)?),
            Who::User(user_id) => Some(user_id),
        }
    }

    /// Of one of those who were asked about; `once`: nobody else asks.
    fn facts(&mut self, who: &Who, seal: &Seal, once: bool) -> Result<LoginFactsReply, StoreError> {
        let Some(user_id) = self.user_id(who).map(str::to_owned) else { return Ok(LoginFactsReply::default()) };
        let again = |said: &Result<LoginFactsReply, StoreError>| said.as_ref().cloned().map_err(StoreError::again);
        if let Some(said) = self.said.get(&user_id) {
            return again(said);
        }
        let Some(user) = self.users.remove(&user_id) else { return Ok(LoginFactsReply::default()) };
        let factors = self.factors.remove(&user_id).unwrap_or_default();
        let devices = self.devices.remove(&user_id).unwrap_or_default();
        let said = Person { user, factors, devices }.facts(seal);
        if !once {
            self.said.insert(user_id, again(&said));
        }
        said
    }
}

/// What was read for one of those who were asked about.
struct Person {
    user: LoginUser,
    factors: Vec<Row>,
    devices: Vec<devices::DeviceRow>,
}

impl Person {
    /// What cannot be opened is the fault of nobody else.
    fn facts(self, seal: &Seal) -> Result<LoginFactsReply, StoreError> {
        let Self { user, factors, devices } = self;
        let code_factors = factors.iter().map(|row| code_factor(seal, row, &user.user_id)).collect::<Result<_, _>>()?;
        let mut reply = LoginFactsReply { code_factors, user: Some(user), ..LoginFactsReply::default() };
        for device in devices {
            match device.kind.as_str() {
                "passkey" => reply.passkeys.push(device.passkey()),
                _ => reply.devices.push(device.opened(seal)?),
            }
        }
        Ok(reply)
    }
}
