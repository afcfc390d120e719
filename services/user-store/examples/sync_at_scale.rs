//! How long the synchronisation takes: a first run, one without changes, a batch of a hundred, a group of everybody, a list that
//! waits and its approval. `cargo run --release -p user-store --example sync_at_scale -- [users] [store url] [password file]`

use proto::user_store::{
    ApplyBatchRequest, ApplySettingsRequest, BeginRunRequest, DecideApprovalRequest, FinishRunReply, FinishRunRequest,
    LeadRequest, LeftObject, SyncedGroup, SyncedPhone, SyncedUser, admin_server::Admin, left_object::How,
    sync_server::Sync,
};
use service_kit::bus::InProcess;
use service_kit::secret::SecretFile;
use service_kit::{Clock, Shutdown};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::Request;
use user_store::{Services, Store, StoreSection};

const SETTINGS: &str = r#"
[sync]
approval_over_users = 5

[[directory]]
name = "corp"
preset = "openldap"
urls = ["ldaps://ldap.corp.example"]
base = "dc=corp,dc=example"
query_bind = { kind = "anonymous" }

[[sync_item]]
name = "staff"
directory = "corp"
source = { kind = "group", dn = "cn=staff,dc=corp,dc=example" }

[[sync_item]]
name = "people"
directory = "corp"
source = { kind = "domain" }
"#;
const BATCH: usize = 1_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let users: usize = arguments.next().map_or(Ok(100_000), |text| text.parse())?;
    let folder = tempfile::tempdir()?;
    let url = arguments.next().unwrap_or_else(|| format!("sqlite:{}", folder.path().join("store.db").display()));
    let mut section =
        StoreSection::new(&url, &folder.path().join("master.key").display().to_string()).map_err(anyhow::Error::msg)?;
    section.password_file = arguments.next().map(|file| SecretFile::new(&file)).transpose()?;
    section.schema = "sync_at_scale".into();
    let store = Store::open(&section, Arc::new(InProcess::new()), Clock::system(), &Shutdown::new()).await?;
    let bench = Bench { services: store.services(), users, epoch: 0 };
    bench.run().await?;
    store.close().await;
    Ok(())
}

struct Bench {
    services: Services,
    users: usize,
    epoch: u64,
}

impl Bench {
    async fn run(mut self) -> anyhow::Result<()> {
        let document = SETTINGS.into();
        let request = ApplySettingsRequest { document, actor: "bench".into(), ..ApplySettingsRequest::default() };
        let applied = self.services.admin.apply_settings(Request::new(request)).await?.into_inner();
        anyhow::ensure!(applied.errors.is_empty(), "{:?}", applied.errors);
        let lead = self.services.sync.lead(Request::new(LeadRequest { holder: "bench".into() })).await?;
        self.epoch = lead.into_inner().epoch;
        for what in ["first run", "run without changes"] {
            let began = Instant::now();
            let run_id = self.begin("full").await?;
            self.send(&run_id, ApplyBatchRequest { groups: vec![self.group(0)], ..Default::default() }).await?;
            self.everybody(&run_id).await?;
            self.finish(&run_id).await?;
            tell(&format!("{what}, {} users", self.users), began.elapsed());
        }
        let run_id = self.begin("incremental").await?;
        for what in ["a batch of 100", "another"] {
            let users = (0..100).map(|number| self.person(number, what)).collect();
            let began = Instant::now();
            self.send(&run_id, ApplyBatchRequest { users, ..Default::default() }).await?;
            tell(what, began.elapsed());
        }
        let began = Instant::now();
        self.finish(&run_id).await?;
        tell("the end of its run", began.elapsed());
        let run_id = self.begin("incremental").await?;
        for (what, but) in [("100 go out of the group of everybody", 100), ("and come back", 0)] {
            let group = self.group(but);
            let began = Instant::now();
            self.send(&run_id, ApplyBatchRequest { groups: vec![group], ..Default::default() }).await?;
            tell(what, began.elapsed());
        }
        let gone: Vec<usize> = (self.users / 2..self.users).collect();
        let began = Instant::now();
        for gone in gone.chunks(5_000) {
            let left = gone.iter().map(|number| LeftObject { object_id: id(*number), how: How::Deleted.into() });
            self.send(&run_id, ApplyBatchRequest { left: left.collect(), ..Default::default() }).await?;
        }
        tell(&format!("{} leave", gone.len()), began.elapsed());
        let began = Instant::now();
        let parked = self.finish(&run_id).await?;
        tell(&format!("the end of their run, {} wait", parked.parked), began.elapsed());
        let run_id = self.begin("incremental").await?;
        let began = Instant::now();
        self.finish(&run_id).await?;
        tell("the end of the next run", began.elapsed());
        let request = DecideApprovalRequest {
            approval_id: parked.approval_id,
            approve: true,
            actor: "bench".into(),
            ..DecideApprovalRequest::default()
        };
        let began = Instant::now();
        let applied = self.services.admin.decide_approval(Request::new(request)).await?.into_inner().applied;
        tell(&format!("their approval, {applied} disabled"), began.elapsed());
        Ok(())
    }

    async fn begin(&self, mode: &str) -> anyhow::Result<String> {
        let (epoch, directory, mode) = (self.epoch, "corp".into(), mode.into());
        let request = BeginRunRequest { epoch, directory, mode, ..BeginRunRequest::default() };
        Ok(self.services.sync.begin_run(Request::new(request)).await?.into_inner().run_id)
    }

    async fn send(&self, run_id: &str, batch: ApplyBatchRequest) -> anyhow::Result<()> {
        let request = ApplyBatchRequest { epoch: self.epoch, run_id: run_id.into(), ..batch };
        self.services.sync.apply_batch(Request::new(request)).await?;
        Ok(())
    }

    async fn finish(&self, run_id: &str) -> anyhow::Result<FinishRunReply> {
        let (epoch, run_id) = (self.epoch, run_id.into());
        let request = FinishRunRequest { epoch, run_id, complete: true, ..FinishRunRequest::default() };
        Ok(self.services.sync.finish_run(Request::new(request)).await?.into_inner())
    }

    async fn everybody(&self, run_id: &str) -> anyhow::Result<()> {
        let mut longest = Duration::ZERO;
        for first in (0..self.users).step_by(BATCH) {
            let users = (first..self.users.min(first + BATCH)).map(|number| self.person(number, "")).collect();
            let began = Instant::now();
            self.send(run_id, ApplyBatchRequest { users, ..Default::default() }).await?;
            longest = longest.max(began.elapsed());
        }
        tell(&format!("the longest batch of {BATCH}"), longest);
        Ok(())
    }

    /// Everybody but the first so many.
    fn group(&self, but: usize) -> SyncedGroup {
        SyncedGroup {
            object_id: id(usize::MAX >> 20),
            distinguished_name: "cn=staff,dc=corp,dc=example".into(),
            name: "staff".into(),
            members: (but..self.users).map(id).collect(),
            ..SyncedGroup::default()
        }
    }

    fn person(&self, number: usize, note: &str) -> SyncedUser {
        SyncedUser {
            object_id: id(number),
            distinguished_name: format!("uid=user{number},ou=people,dc=corp,dc=example"),
            username: format!("user{number}"),
            names: vec![format!("user{number}@corp.example")],
            first_name: "First".into(),
            last_name: format!("Last{number}"),
            mail: format!("first.last{number}@corp.example"),
            phones: vec![SyncedPhone {
                kind: "mobile".into(),
                number: format!("+49 30 1{number:07}"),
                ..SyncedPhone::default()
            }],
            description: note.into(),
            items: vec!["staff".into(), "people".into()],
            ..SyncedUser::default()
        }
    }
}

fn id(number: usize) -> String {
    format!("entryUUID:00000000-0000-0000-0000-{number:012x}")
}

#[expect(clippy::print_stdout, reason = "it is what the program is for")]
fn tell(what: &str, took: Duration) {
    println!("{:>10.3} s  {what}", took.as_secs_f64());
}
