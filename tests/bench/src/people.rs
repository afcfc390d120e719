//! People with an authenticator app, and their codes, each of which counts once.

use anyhow::{Context, Result, bail};
use data_encoding::BASE32_NOPAD;
use domain::{CodeForm, Secret};
use futures::{StreamExt, TryStreamExt, stream};
use proto::{
    user_store::{ListUsersRequest, UserSummary, admin_client::AdminClient},
    verification::{ConfirmCodeRequest, StartCodeRequest, enrolment_client::EnrolmentClient},
};
use serde::{Deserialize, Serialize};
use service_kit::grpc::Channel;
use std::{
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
    // The step before this one, so that the present one is left to log in with. It must not lapse on its way.
    while now_seconds() % PERIOD_SECONDS > PERIOD_SECONDS - 4 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let step = now_step().saturating_sub(1);
    let request = ConfirmCodeRequest {
        user_id: user.user_id,
        factor_id: started.factor_id,
        code: Some(proto::common::Secret { value: code(&decoded(&seed)?, step) }),
        actor: "bench".into(),
    };
    let reply = enrolment.confirm_code(request).await?.into_inner();
    if !reply.confirmed {
        bail!("{}: the first code was refused: {}", user.username, reply.reason);
    }
    Ok(Record { password: password.replace("{}", &user.username), name: user.username, seed, step })
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
