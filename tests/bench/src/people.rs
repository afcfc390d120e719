//! People with an authenticator app, and their codes, each of which counts once.

use anyhow::{Context, Result, bail, ensure};
use data_encoding::BASE32_NOPAD;
use domain::{CodeForm, Secret};
use futures::{StreamExt, TryStreamExt, stream};
use proto::{
    user_store::{
        ImportTokensRequest, ListTokensRequest, ListUsersRequest, TokenRow, UserSummary, admin_client::AdminClient,
    },
    verification::{ConfirmCodeRequest, StartCodeRequest, enrolment_client::EnrolmentClient},
};
use serde::{Deserialize, Serialize};
use service_kit::grpc::Channel;
use std::{
    collections::HashMap,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tonic::{Code, Status};

/// That of `CodeForm::COMMON`.
const PERIOD_SECONDS: u64 = 30;

/// One who has enrolled.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    pub name: String,
    password: String,
    /// In Base32.
    pub seed: String,
    /// The step proven at enrolment: only later ones count.
    step: u64,
}

/// Enrols users through the admin endpoints, a few at a time. In `password` {} stands for the name.
pub async fn enrol(
    store: Channel,
    verification: Channel,
    search: &str,
    count: usize,
    password: &str,
) -> Result<Vec<Record>> {
    let users = users(AdminClient::new(store), search, count).await?;
    if users.len() < count {
        bail!("only {} users match {search:?}, {count} are wanted", users.len());
    }
    let enrolment = EnrolmentClient::new(verification);
    stream::iter(users)
        .map(|user| enrol_patiently(enrolment.clone(), user, password))
        .buffer_unordered(8)
        .try_collect()
        .await
}

/// Gives users hardware tokens, a thousand in one transaction, and proves each by a code: tens of thousands enrol for minutes.
pub async fn issue(
    store: Channel,
    verification: Channel,
    search: &str,
    count: usize,
    password: &str,
) -> Result<Vec<Record>> {
    let mut admin = AdminClient::new(store);
    let users = users(admin.clone(), search, count).await?;
    ensure!(users.len() == count, "only {} users match {search:?}, {count} are wanted", users.len());
    let mut seeds = HashMap::new();
    for some in users.chunks(1_000) {
        let mut rows = Vec::with_capacity(some.len());
        for (row, user) in (1..).zip(some) {
            let mut seed = [0; 20];
            getrandom::fill(&mut seed)?;
            rows.push(TokenRow {
                row,
                serial: format!("bench-{}", user.username),
                seed: Some(proto::common::Secret { value: seed.to_vec() }),
                username: user.username.clone(),
                ..TokenRow::default()
            });
            seeds.insert(user.user_id.clone(), (user, seed));
        }
        let request = ImportTokensRequest { rows, actor: "bench".into(), ..ImportTokensRequest::default() };
        let reply = admin.import_tokens(request).await?.into_inner();
        ensure!(reply.added as usize == some.len(), "not all tokens were taken: {:?}", reply.verdicts.first());
    }
    let mut tokens = Vec::with_capacity(count);
    let mut request = ListTokensRequest { search: "bench-".into(), limit: 1_000, ..ListTokensRequest::default() };
    loop {
        let page = admin.list_tokens(request.clone()).await?.into_inner();
        tokens.extend(page.tokens);
        request.after = page.next;
        if request.after.is_empty() {
            break;
        }
    }
    let enrolment = EnrolmentClient::new(verification);
    let proven = tokens.into_iter().filter_map(|token| {
        let (user, seed) = seeds.get(&token.user_id)?;
        let (name, seed) = (user.username.clone(), BASE32_NOPAD.encode(seed));
        Some(prove(enrolment.clone(), token.user_id, token.factor_id, name, seed, password))
    });
    stream::iter(proven).buffer_unordered(16).try_collect().await
}

/// The factor counts from the first code on.
async fn prove(
    mut enrolment: EnrolmentClient<Channel>,
    user_id: String,
    factor_id: String,
    name: String,
    seed: String,
    password: &str,
) -> Result<Record> {
    // The step before this one, so that the present one is left to log in with. It must not lapse on its way.
    while now_seconds() % PERIOD_SECONDS > PERIOD_SECONDS - 4 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let step = now_step().saturating_sub(1);
    let code = Some(proto::common::Secret { value: code(&decoded(&seed)?, step) });
    let request = ConfirmCodeRequest { user_id, factor_id, code, actor: "bench".into() };
    let mut tries = 0;
    let reply = loop {
        match enrolment.confirm_code(request.clone()).await {
            // On a busy machine the store may not answer in time.
            Err(status) if status.code() == Code::Unavailable && tries < 5 => tries += 1,
            replied => break replied?.into_inner(),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    ensure!(reply.confirmed, "{name}: the first code was refused: {}", reply.reason);
    Ok(Record { password: password.replace("{}", &name), name, seed, step })
}

/// What [`People::read`] reads.
pub fn write(records: &[Record], file: &Path) -> Result<()> {
    fs::write(file, serde_json::to_vec(records)?).with_context(|| file.display().to_string())
}

async fn users(mut admin: AdminClient<Channel>, search: &str, count: usize) -> Result<Vec<UserSummary>> {
    let mut users = Vec::new();
    let mut after = String::new();
    while users.len() < count {
        let request = ListUsersRequest { search: search.into(), after, limit: 1000, ..Default::default() };
        let page = admin.list_users(request).await?.into_inner();
        users.extend(page.users);
        after = page.next;
        if after.is_empty() {
            break;
        }
    }
    users.truncate(count);
    Ok(users)
}

/// On a busy machine the store may not answer in time. A second try is a factor of its own.
async fn enrol_patiently(enrolment: EnrolmentClient<Channel>, user: UserSummary, password: &str) -> Result<Record> {
    let mut tries = 0;
    loop {
        let enrolled = enrol_one(enrolment.clone(), user.clone(), password).await;
        let status = enrolled.as_ref().err().and_then(|error| error.downcast_ref::<Status>());
        tries += 1;
        if tries == 5 || status.is_none_or(|status| status.code() != Code::Unavailable) {
            return enrolled;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn enrol_one(mut enrolment: EnrolmentClient<Channel>, user: UserSummary, password: &str) -> Result<Record> {
    let request = StartCodeRequest { user_id: user.user_id.clone(), ..Default::default() };
    let started = enrolment.start_code(request).await?.into_inner();
    let seed = Secret::from(started.seed_base32.unwrap_or_default());
    let seed = seed.expose_str().unwrap_or_default().to_owned();
    prove(enrolment, user.user_id, started.factor_id, user.username, seed, password).await
}

/// People, used one after the other.
pub struct People {
    records: Vec<(Record, AtomicUsize)>,
    next: AtomicUsize,
    codes: Codes,
}

/// How often the server takes a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codes {
    /// Each login has one that was not used before.
    Once,
    /// That of the present step, whoever used it.
    Again,
}

/// One login's worth of somebody.
pub struct Login {
    pub name: String,
    pub password: String,
    pub code: String,
}

impl People {
    /// For several runs, which must not use each other's codes.
    pub fn shared(file: &Path) -> Result<Arc<Self>> {
        let records: Vec<Record> =
            serde_json::from_slice(&fs::read(file)?).with_context(|| file.display().to_string())?;
        if records.is_empty() {
            bail!("{} names nobody", file.display());
        }
        Ok(Arc::new(Self::new(records)))
    }

    pub fn new(records: Vec<Record>) -> Self {
        Self::with(records, Codes::Once)
    }

    /// For a server that takes codes again.
    pub fn again(records: Vec<Record>) -> Self {
        Self::with(records, Codes::Again)
    }

    fn with(records: Vec<Record>, codes: Codes) -> Self {
        let used = |record: Record| {
            let step = record.step as usize;
            (record, AtomicUsize::new(step))
        };
        Self { records: records.into_iter().map(used).collect(), next: AtomicUsize::new(0), codes }
    }

    pub fn count(&self) -> usize {
        self.records.len()
    }

    /// Waits until there are codes for so many logins: everybody has one more each step.
    pub async fn wait_for(&self, logins: usize) -> Result<()> {
        if logins > 2 * self.records.len() {
            bail!("{} people never have codes for {logins} logins at once", self.records.len());
        }
        while self.fresh() < logins {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    fn fresh(&self) -> usize {
        let now = now_step() as usize;
        let left = |used: &AtomicUsize| (now + 1).saturating_sub(used.load(Ordering::Relaxed)).min(2);
        self.records.iter().map(|(_, used)| left(used)).sum()
    }

    /// `None` when nobody has a fresh code left: three steps count at any time, the previous, this and the next.
    pub fn login(&self) -> Option<Login> {
        for _ in 0..self.records.len() {
            let index = self.next.fetch_add(1, Ordering::Relaxed) % self.records.len();
            let (record, used) = &self.records[index];
            let now = now_step() as usize;
            if self.codes == Codes::Again {
                return record.login(now as u64);
            }
            // The previous step would be about to lapse; this and the next are safe to send.
            let claimed = used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                let step = (last + 1).max(now);
                (step <= now + 1).then_some(step)
            });
            if let Ok(last) = claimed {
                return record.login((last + 1).max(now) as u64);
            }
        }
        None
    }
}

impl Record {
    fn login(&self, step: u64) -> Option<Login> {
        let code = String::from_utf8(code(&decoded(&self.seed).ok()?, step)).ok()?;
        Some(Login { name: self.name.clone(), password: self.password.clone(), code })
    }
}

fn decoded(seed_base32: &str) -> Result<Secret> {
    Ok(Secret::new(BASE32_NOPAD.decode(seed_base32.as_bytes())?))
}

/// The digits of a code of [`CodeForm::COMMON`].
pub fn code(seed: &Secret, step: u64) -> Vec<u8> {
    let form = CodeForm::COMMON;
    otp::hotp(seed, form.algorithm(), step, form.digits())[..usize::from(form.digits())].to_vec()
}

fn now_step() -> u64 {
    now_seconds() / PERIOD_SECONDS
}

fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
