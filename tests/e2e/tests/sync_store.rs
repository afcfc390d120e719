//! The sync over the real store on SQLite and a real OpenLDAP server: who comes, who changes, and above all who does not leave.

use anyhow::{Context, Result, ensure};
use lab::{COMPANY_BASE, Pki, Slapd, SlapdOptions};
use proto::permissions::part::DIRECTORY_SYNC;
use proto::user_store::admin_server::Admin;
use proto::user_store::sync_server::Sync;
use proto::user_store::{
    ApplySettingsRequest, Approval, DecideApprovalRequest, GetUserRequest, LeadRequest, ListUsersRequest,
    RequestSyncRequest, SyncRun, SyncStatusReply, SyncStatusRequest, UserSummary,
};
use service_kit::bus::InProcess;
use service_kit::{Clock, Process};
use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use tonic::Request;

/// Of the sample company and in `ou=bulk`: 200 people, so that six of them are no large share.
const PEOPLE: usize = 200;
const BULK: usize = 80;
const EVERYBODY: &str = "(uid=*)";

struct World {
    slapd: Slapd,
    store: user_store::Services,
    bus: Arc<InProcess>,
    process: Process,
    _dir: tempfile::TempDir,
}

impl World {
    /// Everybody has been read once.
    async fn new() -> Result<Self> {
        let world = Self::without_people().await?;
        let run = world.sync().await?;
        ensure!(run.state == "done" && run.added as usize == PEOPLE, "{run:?}");
        Ok(world)
    }

    async fn without_people() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let pki = Pki::new(&dir.path().join("tls"))?;
        let slapd = Slapd::start(dir.path(), &pki, &SlapdOptions { bulk_people: BULK, ..Default::default() })?;
        let process = Process::detached("test");
        let bus = Arc::new(InProcess::new());
        let section: user_store::StoreSection = serde_json::from_value(serde_json::json!({
            "url": format!("sqlite:{}", dir.path().join("store.db").display()),
            "master_key_file": dir.path().join("master.key"),
        }))?;
        let store = user_store::Store::open(&section, bus.clone(), Clock::system(), process.shutdown()).await?;
        let world = Self { slapd, store: store.services(), bus, process, _dir: dir };
        world.item(EVERYBODY, "disable").await?;
        world.start();
        Ok(world)
    }

    fn start(&self) {
        let deps = directory_sync::Deps {
            sync: self.store.sync.clone(),
            settings: self.store.settings_for(DIRECTORY_SYNC),
            bus: self.bus.clone(),
            clock: Clock::system(),
        };
        directory_sync::start(deps, &self.process);
    }

    /// One sync item with this filter; no schedule.
    async fn item(&self, filter: &str, leavers: &str) -> Result<()> {
        let document = format!(
            r#"
[[directory]]
name = "acme"
preset = "openldap"
urls = ["{url}"]
base = "{COMPANY_BASE}"
query_bind = {{ kind = "tls", name = "{query}", password = "file:query.password" }}
timeout_seconds = 2
connect_timeout_seconds = 1
ca = '''
{ca}'''

[[sync_item]]
name = "everybody"
directory = "acme"
source = {{ kind = "domain" }}
filter = "{filter}"
leavers = "{leavers}"
"#,
            url = self.slapd.ldap_url(),
            query = Slapd::QUERY_DN,
            ca = std::fs::read_to_string(self.slapd.ca_file())?,
        );
        let secret = proto::common::Secret { value: Slapd::QUERY_PASSWORD.into() };
        let secrets = HashMap::from([("directory.acme.query_bind.password".to_owned(), secret)]);
        let request = ApplySettingsRequest { document, secrets, dry_run: false, actor: "test".into() };
        let reply = self.store.admin.apply_settings(Request::new(request)).await?.into_inner();
        ensure!(reply.errors.is_empty(), "{:?}", reply.errors);
        Ok(())
    }

    async fn status(&self) -> Result<SyncStatusReply> {
        Ok(self.store.admin.sync_status(Request::new(SyncStatusRequest {})).await?.into_inner())
    }

    /// What `twinlock sync now` does: asks, and waits for the run that follows.
    async fn sync(&self) -> Result<SyncRun> {
        let before: BTreeSet<String> = self.status().await?.runs.into_iter().map(|run| run.run_id).collect();
        let request = RequestSyncRequest { sync_item: String::new(), actor: "test".into() };
        self.store.admin.request_sync(Request::new(request)).await?;
        for _ in 0..3_000 {
            let runs = self.status().await?.runs;
            let ended = |run: &&SyncRun| {
                !before.contains(&run.run_id) && !["running", "abandoned"].contains(&run.state.as_str())
            };
            if let Some(run) = runs.iter().find(ended) {
                return Ok(run.clone());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        anyhow::bail!("no run ended")
    }

    async fn approvals(&self) -> Result<Vec<Approval>> {
        Ok(self.status().await?.approvals)
    }

    async fn approve(&self, approval: &Approval) -> Result<u32> {
        let request = DecideApprovalRequest {
            approval_id: approval.approval_id.clone(),
            approve: true,
            actor: "test".into(),
            ..DecideApprovalRequest::default()
        };
        Ok(self.store.admin.decide_approval(Request::new(request)).await?.into_inner().applied)
    }

    async fn users(&self, state: &str) -> Result<Vec<UserSummary>> {
        let request = ListUsersRequest { state: state.into(), limit: 1_000, ..ListUsersRequest::default() };
        Ok(self.store.admin.list_users(Request::new(request)).await?.into_inner().users)
    }

    async fn counts(&self) -> Result<(usize, usize, usize)> {
        let count = async |state: &str| Ok::<_, anyhow::Error>(self.users(state).await?.len());
        Ok((count("enabled").await?, count("disabled").await?, count("removed").await?))
    }

    fn delete(&self, people: RangeInclusive<u32>) -> Result<()> {
        let delete = |number| format!("dn: {}\nchangetype: delete\n\n", dn(number));
        self.slapd.modify(&people.map(delete).collect::<String>())
    }

    fn add(&self, people: RangeInclusive<u32>) -> Result<()> {
        let add = |number| {
            let dn = dn(number);
            format!("dn: {dn}\nchangetype: add\nobjectClass: inetOrgPerson\ncn: Person\nsn: Person\n\n")
        };
        self.slapd.modify(&people.map(add).collect::<String>())
    }

    /// Moves people out of the item's sight, or back: they keep their ids.
    fn hide(&self, people: RangeInclusive<u32>, hidden: bool) -> Result<()> {
        let class = if hidden { "gone" } else { "staff" };
        let change = |number| {
            format!("dn: {}\nchangetype: modify\nreplace: employeeType\nemployeeType: {class}\n\n", dn(number))
        };
        self.slapd.modify(&people.map(change).collect::<String>())
    }
}

fn dn(number: u32) -> String {
    format!("uid=bulk{number:05},ou=bulk,ou=people,{COMPANY_BASE}")
}

#[tokio::test]
async fn everybody_of_the_directory_is_a_user_and_a_second_read_changes_nothing() -> Result<()> {
    let world = World::new().await?;
    assert_eq!(world.counts().await?, (PEOPLE, 0, 0));
    let ann = GetUserRequest { name: "ann.archer@acme.example".into() };
    let ann = world.store.admin.get_user(Request::new(ann)).await?.into_inner();
    assert_eq!(ann.user.context("a user")?.username, "ann.archer");
    assert!(ann.groups.contains(&"engineering".to_owned()), "{:?}", ann.groups);
    assert_eq!(ann.phone, "+49 151 55500000");
    let again = world.sync().await?;
    assert_eq!((again.state.as_str(), again.added, again.changed), ("done", 0, 0));
    assert_eq!(again.unchanged as usize, PEOPLE);
    Ok(())
}

#[tokio::test]
async fn five_leave_by_themselves_six_wait_and_newcomers_come_meanwhile() -> Result<()> {
    // S-40, FS-06, FS-07
    let world = World::new().await?;
    world.delete(1..=5)?;
    let five = world.sync().await?;
    assert_eq!((five.state.as_str(), five.disabled, five.parked), ("done", 5, 0));
    assert_eq!(world.counts().await?, (PEOPLE - 5, 5, 0));
    world.delete(6..=11)?;
    world.add(1001..=1001)?;
    let six = world.sync().await?;
    assert_eq!((six.state.as_str(), six.disabled, six.parked, six.added), ("parked", 0, 6, 1));
    assert_eq!(world.counts().await?, (PEOPLE - 5 + 1, 5, 0), "nobody has left, and one has come");
    let approvals = world.approvals().await?;
    let named: BTreeSet<&str> = approvals[0].usernames.iter().map(String::as_str).collect();
    assert_eq!(named, BTreeSet::from(["bulk00006", "bulk00007", "bulk00008", "bulk00009", "bulk00010", "bulk00011"]));
    let still = world.sync().await?;
    assert_eq!((still.state.as_str(), world.approvals().await?.len()), ("parked", 1), "asked once");
    assert_eq!(world.approve(&world.approvals().await?[0]).await?, 6);
    assert_eq!(world.counts().await?, (PEOPLE - 11 + 1, 11, 0));
    let after = world.sync().await?;
    assert_eq!((after.state.as_str(), after.parked), ("done", 0));
    Ok(())
}

#[tokio::test]
async fn who_is_back_when_the_approval_is_given_stays() -> Result<()> {
    // S-40: approve after the OU came back: nobody is removed.
    let world = World::new().await?;
    world.item("(!(employeeType=gone))", "remove").await?;
    world.hide(1..=10, true)?;
    let parked = world.sync().await?;
    assert_eq!((parked.state.as_str(), parked.parked), ("parked", 10));
    let approval = world.approvals().await?.remove(0);
    world.hide(1..=10, false)?;
    let back = world.sync().await?;
    assert_eq!((back.state.as_str(), back.removed), ("done", 0));
    let applied = world.approve(&approval).await;
    assert!(!matches!(applied, Ok(1..)), "{applied:?}");
    assert_eq!(world.counts().await?, (PEOPLE, 0, 0));
    Ok(())
}

#[tokio::test]
async fn a_read_that_finds_nobody_is_parked() -> Result<()> {
    // S-42
    let world = World::new().await?;
    world.item("(uid=nobody-has-this)", "remove").await?;
    let empty = world.sync().await?;
    assert_eq!((empty.state.as_str(), empty.removed, empty.parked as usize), ("parked", 0, PEOPLE));
    assert_eq!(world.counts().await?, (PEOPLE, 0, 0));
    Ok(())
}

#[tokio::test]
async fn an_incomplete_read_takes_nobody_for_gone() -> Result<()> {
    // S-41
    let mut world = World::new().await?;
    world.delete(1..=2)?;
    world.slapd.stop();
    let away = world.sync().await?;
    assert_eq!((away.state.as_str(), away.disabled, away.parked), ("incomplete", 0, 0));
    assert!(away.error.contains("could not be read completely"), "{}", away.error);
    assert_eq!(world.counts().await?, (PEOPLE, 0, 0));
    world.slapd.restart()?;
    let back = world.sync().await?;
    assert_eq!((back.state.as_str(), back.disabled), ("done", 2), "{back:?}");
    Ok(())
}

#[tokio::test]
async fn a_leader_that_was_replaced_takes_a_new_epoch_before_it_writes_again() -> Result<()> {
    // S-60, with the words of the real store
    let world = World::new().await?;
    let epoch = world.store.sync.lead(Request::new(LeadRequest { holder: "other".into() })).await?.into_inner().epoch;
    let run = world.sync().await?;
    assert_eq!((run.state.as_str(), run.unchanged as usize), ("done", PEOPLE));
    let status = world.status().await?;
    assert!(status.epoch > epoch && status.leader != "other", "{} {}", status.epoch, status.leader);
    Ok(())
}

#[tokio::test]
async fn two_people_of_one_name_are_not_added_and_somebody_renamed_stays_the_same_user() -> Result<()> {
    // FS-14, R-60
    let world = World::new().await?;
    let user = async |name: &str| world.store.admin.get_user(Request::new(GetUserRequest { name: name.into() })).await;
    let before = user("bulk00001").await?.into_inner().user.context("a user")?.user_id;
    let double = |ou: &str| {
        format!(
            "dn: uid=twin,ou={ou},ou=people,{COMPANY_BASE}\nchangetype: add\nobjectClass: inetOrgPerson\ncn: Twin\nsn: Twin\n\n"
        )
    };
    let rename = format!("dn: {}\nchangetype: modrdn\nnewrdn: uid=renamed\ndeleteoldrdn: 1\n\n", dn(1));
    world.slapd.modify(&(double("sales") + &double("support") + &rename))?;
    let run = world.sync().await?;
    assert_eq!((run.state.as_str(), run.added, run.changed), ("done", 0, 1));
    assert_eq!(user("renamed").await?.into_inner().user.context("a user")?.user_id, before);
    assert!(user("twin").await.is_err());
    assert_eq!(world.counts().await?, (PEOPLE, 0, 0));
    Ok(())
}
