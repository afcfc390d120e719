//! The sync over the real store and a real directory, and both compared: what the directory's own tools find is what the store has.
#![allow(dead_code, reason = "each test program uses its part")]

pub mod cutter;

use anyhow::{Context, Result, bail, ensure};
use data_encoding::BASE64;
use lab::{COMPANY_BASE, Ds389, Pki, Samba, Slapd, SlapdOptions, program};
use proto::permissions::part::DIRECTORY_SYNC;
use proto::user_store::admin_server::Admin;
use proto::user_store::facts_server::Facts;
use proto::user_store::sync_server::Sync;
use proto::user_store::{
    ApplyBatchRequest, ApplySettingsRequest, Approval, ApprovalUser, BeginRunRequest, DecideApprovalRequest,
    FinishRunRequest, GetSourceRequest, GetUserRequest, LeadRequest, ListApprovalUsersRequest, ListUsersRequest,
    LoginFactsRequest, RequestSyncRequest, SyncRun, SyncStatusReply, SyncStatusRequest, UserDetail, UserSummary,
    login_facts_request,
};
use service_kit::bus::InProcess;
use service_kit::{Clock, Process};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tonic::Request;

/// Somebody, as far as directory and store must agree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Person {
    pub dn: String,
    pub username: String,
    pub first_name: String,
    pub last_name: String,
    pub mail: String,
    pub phone: String,
    /// These three where the settings map them to [`MORE_ATTRIBUTES`].
    pub backup_phone: String,
    pub user_group: String,
    pub language: String,
    pub enabled: bool,
    /// The ids of all groups, through others too.
    pub groups: BTreeSet<String>,
}

/// Where a backup number, a label and the language of text messages may stand: nobody has them to begin with.
pub const MORE_ATTRIBUTES: [&str; 3] = ["pager", "l", "title"];

/// By the id that both know.
pub type People = BTreeMap<String, Person>;

pub enum Upstream {
    Slapd(Slapd),
    Samba(Samba),
    Ds389(Ds389),
}

impl Upstream {
    pub fn slapd(dir: &Path, options: &SlapdOptions) -> Result<Self> {
        Ok(Self::Slapd(Slapd::start(dir, &Pki::new(&dir.join("tls"))?, options)?))
    }

    pub fn samba(dir: &Path) -> Result<Self> {
        Ok(Self::Samba(Samba::start(dir, &Pki::new(&dir.join("tls"))?)?))
    }

    pub fn ds389(dir: &Path) -> Result<Self> {
        Ok(Self::Ds389(Ds389::start(dir, &Pki::new(&dir.join("tls"))?)?))
    }

    /// The company alone.
    pub fn ds389_without_bulk(dir: &Path) -> Result<Self> {
        Ok(Self::Ds389(Ds389::start_without_bulk(dir, &Pki::new(&dir.join("tls"))?)?))
    }

    pub fn modify(&self, ldif: &str) -> Result<()> {
        match self {
            Self::Slapd(slapd) => slapd.modify(ldif),
            Self::Samba(samba) => samba.modify(ldif),
            Self::Ds389(ds389) => ds389.modify(ldif),
        }
    }

    /// The same for a script that does not know what the server itself does to groups when people go or get other names: how many edits
    /// it did not take.
    pub fn modify_what_it_takes(&self, ldif: &str) -> Result<usize> {
        const OF_GROUPS: [&str; 3] =
            ["No such attribute (16)", "Type or value exists (20)", "Object class violation (65)"];
        // Active Directory writes a new name of somebody to their groups.
        const OF_LINKS: [&str; 3] =
            ["No such object (32)", "Server is unwilling to perform (53)", "Already exists (68)"];
        let links = if matches!(self, Self::Samba(_)) { OF_LINKS.as_slice() } else { &[] };
        let file = std::env::temp_dir().join(format!("edits-{}.ldif", uuid::Uuid::new_v4()));
        std::fs::write(&file, ldif)?;
        let [name, password] = self.admin();
        let output = Command::new(program("ldapmodify")?)
            .env("LDAPTLS_CACERT", self.ca_file())
            .args(["-c", "-x", "-H", &self.url(), "-D", name, "-w", password, "-f"])
            .arg(&file)
            .output()?;
        std::fs::remove_file(&file)?;
        let said = String::from_utf8_lossy(&output.stderr);
        let failed = said.lines().filter(|line| line.starts_with("ldap_"));
        let (refused, failed): (Vec<&str>, Vec<&str>) =
            failed.partition(|line| OF_GROUPS.iter().chain(links).any(|known| line.contains(known)));
        ensure!(failed.is_empty(), "{failed:?}");
        Ok(refused.len())
    }

    pub fn url(&self) -> String {
        match self {
            Self::Slapd(slapd) => slapd.ldaps_url(),
            Self::Samba(samba) => samba.ldaps_url(),
            Self::Ds389(ds389) => ds389.ldaps_url(),
        }
    }

    fn ca_file(&self) -> &Path {
        match self {
            Self::Slapd(slapd) => slapd.ca_file(),
            Self::Samba(samba) => samba.ca_file(),
            Self::Ds389(ds389) => ds389.ca_file(),
        }
    }

    fn base(&self) -> &'static str {
        match self {
            Self::Samba(_) => Samba::BASE,
            Self::Slapd(_) | Self::Ds389(_) => COMPANY_BASE,
        }
    }

    /// The account that may read everything, also what was deleted.
    pub fn admin(&self) -> [&'static str; 2] {
        match self {
            Self::Slapd(_) => [Slapd::ADMIN_DN, Slapd::ADMIN_PASSWORD],
            Self::Samba(_) => [Samba::ADMIN_DN, Samba::ADMIN_PASSWORD],
            Self::Ds389(_) => [Ds389::ADMIN_DN, Ds389::ADMIN_PASSWORD],
        }
    }

    pub fn query(&self) -> [&'static str; 2] {
        match self {
            Self::Samba(_) => [Samba::QUERY_DN, Samba::QUERY_PASSWORD],
            Self::Slapd(_) => [Slapd::QUERY_DN, Slapd::QUERY_PASSWORD],
            // An ordinary account may not read the changelog.
            Self::Ds389(_) => [Ds389::ADMIN_DN, Ds389::ADMIN_PASSWORD],
        }
    }

    fn preset(&self) -> &'static str {
        match self {
            Self::Slapd(_) => "openldap",
            Self::Samba(_) => "active_directory",
            Self::Ds389(_) => "389ds",
        }
    }

    /// The `[[directory]]` `corp`, with more lines of it.
    pub fn section(&self, name: &str, more: &str) -> Result<String> {
        self.section_at(&[&self.url()], name, more)
    }

    /// The same behind other addresses.
    pub fn section_at(&self, urls: &[&str], name: &str, more: &str) -> Result<String> {
        Ok(format!(
            "[[directory]]\nname = \"corp\"\npreset = \"{}\"\nurls = {urls:?}\nbase = \"{}\"\ntimeout_seconds = 20\n\
             query_bind = {{ kind = \"tls\", name = \"{name}\", password = \"file:query.password\" }}\n{more}\n\
             ca = '''\n{}'''\n\n",
            self.preset(),
            self.base(),
            std::fs::read_to_string(self.ca_file())?
        ))
    }

    /// `ldapsearch`, which is not ours: DN and values by attribute in lower case.
    pub fn search(&self, base: &str, filter: &str, attributes: &[&str]) -> Result<Vec<Found>> {
        let [name, password] = self.admin();
        let output = Command::new(program("ldapsearch")?)
            .env("LDAPTLS_CACERT", self.ca_file())
            .args(["-x", "-LLL", "-o", "ldif-wrap=no", "-E", "pr=1000/noprompt", "-H", &self.url()])
            .args(["-D", name, "-w", password, "-b", base, filter])
            .args(attributes)
            .output()?;
        // 32: there is nothing below the base; 10: references at the root of a domain.
        let code = output.status.code();
        ensure!(matches!(code, Some(0 | 10 | 32)), "ldapsearch: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout)?;
        text.split("\n\n").filter(|block| block.contains("dn:")).map(Found::of).collect()
    }

    /// Everybody below here, as the directory's own tools have it.
    pub fn people(&self, base: &str) -> Result<People> {
        let (filter, id) = match self {
            Self::Slapd(_) => ("(objectClass=inetOrgPerson)", "entryUUID"),
            Self::Samba(_) => ("(&(objectCategory=person)(objectClass=user))", "objectGUID"),
            Self::Ds389(_) => ("(objectClass=inetOrgPerson)", "nsUniqueId"),
        };
        let attributes = [id, "uid", "userPrincipalName", "sAMAccountName", "givenName", "sn", "mail", "mobile"];
        let more = [
            "telephoneNumber",
            "userAccountControl",
            "accountExpires",
            "primaryGroupID",
            "pwdAccountLockedTime",
            "nsAccountLock",
        ];
        let groups = self.groups()?;
        let mut people = People::new();
        for found in self.search(base, filter, &[attributes.as_slice(), &more, &MORE_ATTRIBUTES].concat())? {
            let username = match self {
                Self::Samba(_) => [found.text("userprincipalname"), found.text("samaccountname")],
                Self::Slapd(_) | Self::Ds389(_) => [found.text("uid"), String::new()],
            };
            let flags: i64 = found.text("useraccountcontrol").parse().unwrap_or(0);
            // A time of long ago: 0 and the greatest number mean never.
            let expires: i64 = found.text("accountexpires").parse().unwrap_or(0);
            let expired = expires > 0 && expires < 130_000_000_000_000_000;
            let locked = found.text("pwdaccountlockedtime") == "000001010000Z" || found.text("nsaccountlock") == "true";
            let phone = [found.text("mobile"), found.text("telephonenumber")];
            let person = Person {
                groups: groups.of(&found.dn, &found.text("uid"), &found.text("primarygroupid")),
                dn: found.dn.clone(),
                username: username.into_iter().find(|name| !name.is_empty()).unwrap_or_default(),
                first_name: found.text("givenname"),
                last_name: found.text("sn"),
                mail: found.text("mail"),
                phone: phone.iter().find(|number| !number.is_empty()).map(|number| dialled(number)).unwrap_or_default(),
                backup_phone: dialled(&found.text("pager")),
                user_group: found.text("l"),
                language: found.text("title"),
                enabled: flags & 2 == 0 && !locked && !expired,
            };
            people.insert(self.id(&found)?, person);
        }
        Ok(people)
    }

    fn id(&self, found: &Found) -> Result<String> {
        Ok(match self {
            Self::Slapd(_) => format!("entryUUID:{}", found.text("entryuuid")),
            Self::Ds389(_) => format!("nsUniqueId:{}", found.text("nsuniqueid")),
            Self::Samba(_) => {
                let octets =
                    found.values.get("objectguid").and_then(|values| values.first()).context("no objectGUID")?;
                format!("objectGUID:{}", uuid::Uuid::from_bytes_le(octets.as_slice().try_into()?))
            }
        })
    }

    fn groups(&self) -> Result<Groups> {
        let filter = match self {
            Self::Samba(_) => "(&(objectCategory=group)(groupType:1.2.840.113556.1.4.804:=2147483648))",
            Self::Slapd(_) | Self::Ds389(_) => {
                "(|(objectClass=groupOfNames)(objectClass=groupOfUniqueNames)(objectClass=posixGroup))"
            }
        };
        let mut groups = Groups::default();
        let attributes = ["entryUUID", "objectGUID", "nsUniqueId", "member", "uniqueMember", "memberUid", "objectSid"];
        for found in self.search(self.base(), filter, &attributes)? {
            if let Some(sid) = found.values.get("objectsid").and_then(|values| values.first())
                && let Some(tail) = sid.last_chunk::<4>()
            {
                groups.primary.insert(u32::from_le_bytes(*tail).to_string(), folded(&found.dn));
            }
            for member in ["member", "uniquemember"].into_iter().flat_map(|name| found.texts(name)) {
                groups.parents.entry(folded(&member)).or_default().insert(folded(&found.dn));
            }
            for uid in found.texts("memberuid") {
                groups.parents.entry(format!("uid:{}", uid.to_lowercase())).or_default().insert(folded(&found.dn));
            }
            groups.ids.insert(folded(&found.dn), self.id(&found)?);
        }
        Ok(groups)
    }
}

/// As the store keeps a number that has its country (S-57).
pub fn dialled(number: &str) -> String {
    number.chars().filter(|sign| *sign == '+' || sign.is_ascii_digit()).collect()
}

fn folded(dn: &str) -> String {
    dn.to_lowercase().replace(", ", ",")
}

/// Who is in what, by DN or by uid.
#[derive(Default)]
struct Groups {
    ids: HashMap<String, String>,
    parents: HashMap<String, BTreeSet<String>>,
    /// By the last number of its SID.
    primary: HashMap<String, String>,
}

impl Groups {
    fn of(&self, dn: &str, uid: &str, primary: &str) -> BTreeSet<String> {
        let named = [folded(dn), format!("uid:{}", uid.to_lowercase())];
        let mut open: Vec<String> = named.iter().filter_map(|name| self.parents.get(name)).flatten().cloned().collect();
        open.extend(self.primary.get(primary).cloned());
        let mut all = BTreeSet::new();
        while let Some(group) = open.pop() {
            if all.insert(group.clone()) {
                open.extend(self.parents.get(&group).into_iter().flatten().cloned());
            }
        }
        all.iter().filter_map(|dn| self.ids.get(dn).cloned()).collect()
    }
}

/// An entry as LDIF had it.
#[derive(Debug)]
pub struct Found {
    pub dn: String,
    pub values: HashMap<String, Vec<Vec<u8>>>,
}

impl Found {
    fn of(block: &str) -> Result<Self> {
        let mut found = Self { dn: String::new(), values: HashMap::new() };
        for line in block.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = match value.strip_prefix(':') {
                Some(encoded) => BASE64.decode(encoded.trim().as_bytes())?,
                None => value.trim().as_bytes().to_vec(),
            };
            match name {
                "dn" => found.dn = String::from_utf8(value)?,
                name => found.values.entry(name.to_lowercase()).or_default().push(value),
            }
        }
        Ok(found)
    }

    pub fn texts(&self, name: &str) -> Vec<String> {
        let values = self.values.get(name).into_iter().flatten();
        values.map(|value| String::from_utf8_lossy(value).into_owned()).collect()
    }

    pub fn text(&self, name: &str) -> String {
        self.texts(name).into_iter().next().unwrap_or_default()
    }
}

/// The store on SQLite and the sync in this process.
pub struct World {
    pub upstream: Arc<Upstream>,
    pub store: user_store::Services,
    pub bus: Arc<InProcess>,
    /// Of the store and of synchronisation: it stands between the runs that are asked for.
    pub clock: Clock,
    process: Process,
    /// Where those are whom the item holds.
    pub base: String,
    dir: TempDir,
}

impl World {
    /// Nothing is run yet.
    pub async fn new(dir: TempDir, upstream: Arc<Upstream>, base: &str, document: &str) -> Result<Self> {
        let process = Process::detached("test");
        let bus = Arc::new(InProcess::new());
        let section: user_store::StoreSection = serde_json::from_value(serde_json::json!({
            "url": format!("sqlite:{}", dir.path().join("store.db").display()),
            "master_key_file": dir.path().join("master.key"),
        }))?;
        let clock = Clock::at(Clock::system().now_ms());
        let store = user_store::Store::open(&section, bus.clone(), clock.clone(), process.shutdown()).await?;
        let world = Self { upstream, store: store.services(), bus, clock, process, base: base.to_owned(), dir };
        if !document.is_empty() {
            world.apply(document).await?;
        }
        world.start();
        Ok(world)
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// One more instance.
    pub fn start(&self) {
        let deps = directory_sync::Deps {
            sync: self.store.sync.clone(),
            settings: self.store.settings_for(DIRECTORY_SYNC),
            bus: self.bus.clone(),
            host: directory_sync::host(),
            clock: self.clock.clone(),
        };
        directory_sync::start(deps, &self.process);
    }

    pub async fn apply(&self, document: &str) -> Result<()> {
        self.apply_with(document, self.upstream.query()[1]).await
    }

    pub async fn apply_with(&self, document: &str, password: &str) -> Result<()> {
        let secret = proto::common::Secret { value: password.as_bytes().to_vec() };
        let secrets = HashMap::from([("directory.corp.query_bind.password".to_owned(), secret)]);
        let mut request = ApplySettingsRequest {
            document: document.into(),
            secrets,
            actor: "test".into(),
            ..ApplySettingsRequest::default()
        };
        let mut reply = self.store.admin.apply_settings(Request::new(request.clone())).await?.into_inner();
        if !reply.removed_items.is_empty() {
            // Items that the document loses are meant to go.
            request.removed_items = reply.removed_items.into_iter().map(|item| item.sync_item).collect();
            reply = self.store.admin.apply_settings(Request::new(request)).await?.into_inner();
        }
        ensure!(reply.errors.is_empty(), "{:?}", reply.errors);
        Ok(())
    }

    pub async fn status(&self) -> Result<SyncStatusReply> {
        Ok(self.store.admin.sync_status(Request::new(SyncStatusRequest {})).await?.into_inner())
    }

    /// Asks for a run and waits for its end.
    pub async fn run(&self, mode: &str) -> Result<SyncRun> {
        self.ask(RequestSyncRequest { mode: mode.into(), actor: "test".into(), ..Default::default() }).await
    }

    /// A minute after the one before: a second look is worth something then (S-43).
    pub async fn ask(&self, request: RequestSyncRequest) -> Result<SyncRun> {
        self.clock.advance(60_000);
        let before = self.run_ids().await?;
        self.store.admin.request_sync(Request::new(request)).await?;
        self.ended(&before, |run| run.trigger == "request").await
    }

    pub async fn run_ids(&self) -> Result<BTreeSet<String>> {
        Ok(self.status().await?.runs.into_iter().map(|run| run.run_id).collect())
    }

    /// Waits for a run that was not there before to end.
    pub async fn ended(&self, before: &BTreeSet<String>, which: impl Fn(&SyncRun) -> bool) -> Result<SyncRun> {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(120) {
            let runs = self.status().await?.runs;
            let ended = |run: &&SyncRun| {
                !before.contains(&run.run_id) && which(run) && !["running", "abandoned"].contains(&run.state.as_str())
            };
            if let Some(run) = runs.iter().rev().find(ended) {
                return Ok(run.clone());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("no run ended: {:?}", self.status().await?)
    }

    pub async fn users(&self, state: &str) -> Result<Vec<UserSummary>> {
        let (mut users, mut after) = (Vec::new(), String::new());
        loop {
            let request = ListUsersRequest { state: state.into(), limit: 1_000, after, ..ListUsersRequest::default() };
            let page = self.store.admin.list_users(Request::new(request)).await?.into_inner();
            users.extend(page.users);
            after = page.next;
            if after.is_empty() {
                return Ok(users);
            }
        }
    }

    pub async fn detail(&self, name: &str) -> Result<UserDetail> {
        Ok(self.store.admin.get_user(Request::new(GetUserRequest { name: name.into() })).await?.into_inner())
    }

    /// Everybody in the store, by the id of the directory.
    pub async fn people(&self) -> Result<People> {
        let mut people = People::new();
        for user in self.users("").await? {
            let detail = self.detail(&user.user_id).await?;
            let subject = detail.subject.context("a subject")?;
            let id = subject.object_id.clone();
            let facts =
                LoginFactsRequest { who: Some(login_facts_request::Who::Subject(subject)), ..Default::default() };
            let facts = self.store.facts.login(Request::new(facts)).await?.into_inner();
            // Each by its id and its DN.
            let groups = facts.user.map(|user| user.groups).unwrap_or_default().into_iter();
            let person = Person {
                dn: detail.distinguished_name,
                enabled: user.state == "enabled",
                username: user.username,
                first_name: user.first_name,
                last_name: user.last_name,
                mail: user.mail,
                phone: detail.phone,
                backup_phone: detail.backup_phone,
                user_group: user.user_group,
                language: detail.language_text,
                groups: groups.filter(|name| name.parse::<domain::ObjectId>().is_ok()).collect(),
            };
            ensure!(people.insert(id.clone(), person).is_none(), "{id} is there twice");
        }
        Ok(people)
    }

    /// Store and directory agree about everybody who is in the directory, and nobody else may come in.
    pub async fn agrees(&self, step: &str) -> Result<()> {
        match self.difference().await? {
            None => Ok(()),
            Some(difference) => {
                let runs: Vec<SyncRun> = self.status().await?.runs.into_iter().take(3).collect();
                bail!("{step}: {difference}\nlast runs: {runs:#?}")
            }
        }
    }

    /// The same, as soon as it is so.
    pub async fn agrees_within(&self, step: &str, limit: Duration) -> Result<Duration> {
        let begun = Instant::now();
        loop {
            match self.difference().await? {
                None => return Ok(begun.elapsed()),
                Some(difference) if begun.elapsed() > limit => bail!("{step}, after {limit:?}: {difference}"),
                Some(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Store and directory agree about everybody who is in the directory, and the store has the groups in which they are. What a deletion
    /// took is not looked at: people, and groups that led into others.
    pub async fn agrees_about_those_there(&self, step: &str) -> Result<()> {
        let (directory, mut store) = (self.upstream.people(&self.base)?, self.people().await?);
        for (id, person) in &mut store {
            let theirs = directory.get(id).map(|person| &person.groups);
            person.groups.retain(|group| theirs.is_some_and(|theirs| theirs.contains(group)));
        }
        match difference_of_those_there(&directory, &store) {
            None => Ok(()),
            Some(difference) => bail!("{step}: {difference}"),
        }
    }

    pub async fn difference(&self) -> Result<Option<String>> {
        let (directory, store) = (self.upstream.people(&self.base)?, self.people().await?);
        if let Some(difference) = difference_of_those_there(&directory, &store) {
            return Ok(Some(difference));
        }
        for (id, here) in &store {
            if here.enabled && !directory.contains_key(id) {
                return Ok(Some(format!("{} is gone from the directory and enabled here ({id})", here.dn)));
            }
        }
        Ok(None)
    }

    /// Another leader for a moment, who leaves a position that no server gave: the form is right, the cookie is not.
    pub async fn spoil_position(&self) -> Result<()> {
        self.edit_position(spoil).await
    }

    /// The same with a position that is made of the last one.
    pub async fn edit_position(&self, edit: impl FnOnce(&mut serde_json::Value)) -> Result<()> {
        let sync = &self.store.sync;
        let epoch = sync.lead(Request::new(LeadRequest { holder: "test".into() })).await?.into_inner().epoch;
        let source = GetSourceRequest { epoch, directory: "corp".into() };
        let position = sync.get_source(Request::new(source)).await?.into_inner().position;
        let mut position: serde_json::Value = serde_json::from_slice(&position)?;
        edit(&mut position);
        let mode = "incremental".to_owned();
        let begin = BeginRunRequest { epoch, directory: "corp".into(), mode, ..BeginRunRequest::default() };
        let run_id = sync.begin_run(Request::new(begin)).await?.into_inner().run_id;
        let position = serde_json::to_vec(&position)?;
        let batch = ApplyBatchRequest { epoch, run_id: run_id.clone(), position, ..ApplyBatchRequest::default() };
        sync.apply_batch(Request::new(batch)).await?;
        let finish = FinishRunRequest { epoch, run_id, complete: true, ..FinishRunRequest::default() };
        sync.finish_run(Request::new(finish)).await?;
        Ok(())
    }

    pub async fn approvals(&self) -> Result<Vec<Approval>> {
        Ok(self.status().await?.approvals)
    }

    pub async fn waiting(&self, approval: &Approval) -> Result<Vec<ApprovalUser>> {
        let (mut users, mut after) = (Vec::new(), String::new());
        loop {
            let approval_id = approval.approval_id.clone();
            let request = ListApprovalUsersRequest { approval_id, after, limit: 500 };
            let page = self.store.admin.list_approval_users(Request::new(request)).await?.into_inner();
            users.extend(page.users);
            after = page.next;
            if after.is_empty() {
                return Ok(users);
            }
        }
    }

    pub async fn approve(&self, approval: &Approval) -> Result<u32> {
        let request = DecideApprovalRequest {
            approval_id: approval.approval_id.clone(),
            approve: true,
            actor: "approver".into(),
            ..DecideApprovalRequest::default()
        };
        Ok(self.store.admin.decide_approval(Request::new(request)).await?.into_inner().applied)
    }
}

fn difference_of_those_there(directory: &People, store: &People) -> Option<String> {
    for (id, there) in directory {
        let Some(here) = store.get(id) else { return Some(format!("{} is missing ({id})", there.dn)) };
        // Who is disabled passes nowhere, and nobody asks for their groups.
        let bare = |person: &Person| {
            let groups = if person.enabled { person.groups.clone() } else { BTreeSet::new() };
            Person { dn: folded(&person.dn), groups, ..person.clone() }
        };
        if bare(there) != bare(here) {
            return Some(format!("the directory has {there:#?}\nthe store has {here:#?}"));
        }
    }
    None
}

/// Every cookie becomes nonsense of the same length; where there is none, the number it counts by goes back.
fn spoil(value: &mut serde_json::Value) {
    let Some(fields) = value.as_object_mut() else { return };
    for (name, value) in fields {
        match value {
            serde_json::Value::String(text) if name == "cookie" => {
                *text = BASE64.encode(&vec![b'x'; text.len() / 4 * 3])
            }
            serde_json::Value::String(text) if name.contains("invocation") => {
                *text = "00112233445566778899aabbccddeeff".into()
            }
            inner => spoil(inner),
        }
    }
}
