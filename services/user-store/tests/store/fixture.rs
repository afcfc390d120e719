//! A fresh store with a bus that is listened to, a clock that stands, and people put in by the sync.

use lab::Postgres;
use proto::common;
use proto::user_store::{
    AddPendingFactorRequest, ApplyBatchReply, ApplyBatchRequest, ApplySettingsRequest, AuditEvent, BeginRunRequest,
    CodeFactor, CommitAllowRequest, ConfirmFactorRequest, FinishRunReply, FinishRunRequest, GetUserRequest,
    LeadRequest, LeftObject, ListAuditRequest, ListUnseenRequest, LoginFactsReply, LoginFactsRequest, LoginUser, Mail,
    SetUserStateRequest, SyncedPhone, SyncedUser, TakeMailRequest, UserDetail, VerifyAuditRequest, admin_server::Admin,
    commit_server::Commit, facts_server::Facts, left_object::How, login_facts_request::Who, outbox_server::Outbox,
    sync_server::Sync,
};
use service_kit::bus::InProcess;
use service_kit::{Clock, Shutdown};
use sqlx::Row;
use std::{path::Path, sync::Arc};
use tonic::{Request, Status};
use user_store::{OpenError, Services, Store, StoreSection};

/// 2026-11-20, where the clock stands at first.
pub const NOON_MS: i64 = 1_795_176_000_000;
pub const SETTINGS: &str = r#"
[[directory]]
name = "corp"
preset = "openldap"
urls = ["ldaps://ldap.corp.example"]
base = "dc=corp,dc=example"
query_bind = { kind = "anonymous" }

[[sync_item]]
name = "people"
directory = "corp"
source = { kind = "domain" }
"#;

pub struct Fixture {
    pub store: Store,
    pub services: Services,
    pub section: StoreSection,
    pub clock: Clock,
    pub bus: Arc<InProcess>,
    pub epoch: std::sync::atomic::AtomicU64,
    _folder: Option<tempfile::TempDir>,
}

/// Opens a store beside what is open already, on a bus and a clock of its own.
pub async fn open(section: &StoreSection) -> Result<Store, OpenError> {
    Store::open(section, Arc::new(InProcess::new()), Clock::at(NOON_MS), &Shutdown::new()).await
}

impl Fixture {
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the store");
        let url = format!("sqlite:{}", folder.path().join("twinlock.db").display());
        let key = folder.path().join("master.key").display().to_string();
        let section = StoreSection::new(&url, &key).expect("a valid section");
        Self::start(section, Some(folder)).await
    }

    pub async fn postgres(server: &Postgres, schema: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the key");
        let section = Self::postgres_section(server, schema, folder.path());
        Self::start(section, Some(folder)).await
    }

    pub fn postgres_section(server: &Postgres, schema: &str, folder: &Path) -> StoreSection {
        use std::os::unix::fs::PermissionsExt;
        let password = folder.join("password");
        std::fs::write(&password, Postgres::PASSWORD).expect("written");
        std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).expect("owner only");
        let key = folder.join(format!("{schema}.key")).display().to_string();
        let section = StoreSection::new(&server.url_without_password(), &key).expect("a valid section");
        let password = service_kit::secret::SecretFile::new(&password.display().to_string()).expect("readable");
        StoreSection { password_file: Some(password), schema: schema.into(), connections: 6, ..section }
    }

    async fn start(section: StoreSection, folder: Option<tempfile::TempDir>) -> Self {
        let (bus, clock) = (Arc::new(InProcess::new()), Clock::at(NOON_MS));
        let store = Store::open(&section, bus.clone(), clock.clone(), &Shutdown::new()).await.expect("the store opens");
        Self { bus, clock, _folder: folder, ..Self::over(store, section) }
    }

    /// Over a store that is open already.
    pub fn over(store: Store, section: StoreSection) -> Self {
        let services = store.services();
        Self {
            store,
            services,
            section,
            clock: Clock::at(NOON_MS),
            bus: Arc::new(InProcess::new()),
            epoch: 0.into(),
            _folder: None,
        }
    }

    /// Items that the document loses are meant to go.
    pub async fn apply(&self, document: &str) -> proto::user_store::ApplySettingsReply {
        let mut request =
            ApplySettingsRequest { document: document.into(), actor: "admin:test".into(), ..Default::default() };
        let reply = self.apply_as_asked(request.clone()).await;
        if reply.removed_items.is_empty() {
            return reply;
        }
        request.removed_items = reply.removed_items.into_iter().map(|item| item.sync_item).collect();
        self.apply_as_asked(request).await
    }

    pub async fn apply_as_asked(&self, request: ApplySettingsRequest) -> proto::user_store::ApplySettingsReply {
        self.services.admin.apply_settings(Request::new(request)).await.expect("the store answers").into_inner()
    }

    /// The settings of [`SETTINGS`] and a leader's epoch.
    pub async fn with_settings(&self) {
        let reply = self.apply(SETTINGS).await;
        assert_eq!(reply.errors, [""; 0]);
        self.lead().await;
    }

    pub async fn lead(&self) -> u64 {
        let request = Request::new(LeadRequest { holder: "test".into() });
        let epoch = self.services.sync.lead(request).await.expect("the store answers").into_inner().epoch;
        self.epoch.store(epoch, std::sync::atomic::Ordering::SeqCst);
        epoch
    }

    pub fn epoch(&self) -> u64 {
        self.epoch.load(std::sync::atomic::Ordering::SeqCst)
    }

    pub async fn begin(&self) -> Result<String, Status> {
        self.begin_as("full").await
    }

    pub async fn begin_as(&self, mode: &str) -> Result<String, Status> {
        let request = BeginRunRequest {
            epoch: self.epoch(),
            directory: "corp".into(),
            mode: mode.into(),
            now_unix_ms: self.clock.now_ms(),
            ..BeginRunRequest::default()
        };
        Ok(self.services.sync.begin_run(Request::new(request)).await?.into_inner().run_id)
    }

    pub async fn batch(&self, run_id: &str, users: Vec<SyncedUser>) -> ApplyBatchReply {
        self.send(run_id, ApplyBatchRequest { users, ..ApplyBatchRequest::default() }).await
    }

    pub async fn send(&self, run_id: &str, batch: ApplyBatchRequest) -> ApplyBatchReply {
        let batch = ApplyBatchRequest { epoch: self.epoch(), run_id: run_id.into(), ..batch };
        self.services.sync.apply_batch(Request::new(batch)).await.expect("the batch is applied").into_inner()
    }

    pub async fn finish(&self, run_id: &str, complete: bool) -> FinishRunReply {
        let request = FinishRunRequest {
            epoch: self.epoch(),
            run_id: run_id.into(),
            complete,
            error: if complete { String::new() } else { "size limit exceeded".into() },
            now_unix_ms: self.clock.now_ms(),
            ..FinishRunRequest::default()
        };
        let end = self.services.sync.finish_run(Request::new(request)).await.expect("the run ends").into_inner();
        // How many there were is looked at where they are.
        FinishRunReply { problems: 0, ..end }
    }

    /// Whom the run has not met, page by page.
    pub async fn unseen(&self, run_id: &str) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        loop {
            let request = ListUnseenRequest {
                epoch: self.epoch(),
                run_id: run_id.into(),
                after: found.last().cloned().unwrap_or_default(),
                limit: 100,
            };
            let page = self.services.sync.list_unseen(Request::new(request)).await.expect("listed").into_inner();
            if page.object_ids.is_empty() {
                return found;
            }
            found.extend(page.object_ids);
        }
    }

    /// One complete full run that finds exactly these; of the others the directory says that they were deleted.
    pub async fn run(&self, users: Vec<SyncedUser>) -> FinishRunReply {
        self.run_missing(users, How::Deleted).await
    }

    pub async fn run_missing(&self, users: Vec<SyncedUser>, how: How) -> FinishRunReply {
        let run_id = self.begin().await.expect("a run begins");
        self.batch(&run_id, users).await;
        let left = left(self.unseen(&run_id).await, how);
        self.send(&run_id, ApplyBatchRequest { left, ..ApplyBatchRequest::default() }).await;
        self.finish(&run_id, true).await
    }

    pub async fn user(&self, name: &str) -> Result<UserDetail, Status> {
        let request = GetUserRequest { name: name.into() };
        Ok(self.services.admin.get_user(Request::new(request)).await?.into_inner())
    }

    pub async fn state(&self, name: &str) -> String {
        self.user(name).await.expect("the user is there").user.expect("with a summary").state
    }

    /// State and its words of somebody who may be removed, by the directory's id.
    pub async fn by_id(&self, object_id: &str) -> (String, String) {
        let subject = common::DirectoryRef { directory: "corp".into(), object_id: object_id.into() };
        let request = LoginFactsRequest { who: Some(Who::Subject(subject)), ..Default::default() };
        let facts = self.services.facts.login(Request::new(request)).await.expect("the store answers").into_inner();
        let user = facts.user.expect("the user is there");
        (user.state, user.state_text)
    }

    /// What the decision would hear about a user.
    pub async fn facts(&self, user_id: &str) -> LoginFactsReply {
        let request = LoginFactsRequest { who: Some(Who::UserId(user_id.into())), ..Default::default() };
        self.services.facts.login(Request::new(request)).await.expect("the store answers").into_inner()
    }

    pub async fn login_user(&self, user_id: &str) -> LoginUser {
        self.facts(user_id).await.user.expect("the user is there")
    }

    /// What waits in the outbox; taken, so that the next call tells what came since.
    pub async fn mails(&self) -> Vec<Mail> {
        // Rules tell the store times a little after the clock's.
        let now_unix_ms = self.clock.now_ms() + 60_000;
        let request = TakeMailRequest { limit: 100, lease_seconds: 600, now_unix_ms };
        self.services.outbox.take(Request::new(request)).await.expect("the store answers").into_inner().mails
    }

    pub async fn disable(&self, user_id: &str) {
        let disable = SetUserStateRequest {
            user_id: user_id.into(),
            state: "disabled".into(),
            reason: "left".into(),
            actor: "admin:uid=0".into(),
            expected_revision: 0,
        };
        self.services.admin.set_user_state(Request::new(disable)).await.expect("disabled");
    }

    /// A synchronised person with one proven code.
    pub async fn enrolled(&self, username: &str) -> Enrolled {
        if self.epoch() == 0 {
            self.with_settings().await;
        }
        let run_id = self.begin().await.expect("a run begins");
        self.batch(&run_id, vec![person(username)]).await;
        self.enrol(username).await
    }

    pub async fn enrol(&self, username: &str) -> Enrolled {
        let user_id = self.user(username).await.expect("there").user.expect("with a summary").user_id;
        let factor_id = self.add_factor(&user_id).await;
        let confirm = ConfirmFactorRequest {
            user_id: user_id.clone(),
            factor_id: factor_id.clone(),
            step: 100,
            actor: "self".into(),
            now_unix_ms: NOON_MS,
        };
        let reply = self.services.commit.confirm_factor(Request::new(confirm)).await.expect("confirmed").into_inner();
        assert!(reply.confirmed);
        Enrolled { user_id, factor_id, username: username.into() }
    }

    pub async fn add_factor(&self, user_id: &str) -> String {
        let factor = CodeFactor {
            algorithm: "SHA1".into(),
            digits: 6,
            period_seconds: 30,
            seed: Some(common::Secret { value: SEED.to_vec() }),
            ..CodeFactor::default()
        };
        let request =
            AddPendingFactorRequest { user_id: user_id.into(), factor: Some(factor), actor: "admin:uid=0".into() };
        self.services.commit.add_pending_factor(Request::new(request)).await.expect("added").into_inner().factor_id
    }

    /// A factor that is proven, beside those there are.
    pub async fn add_token_of(&self, user_id: &str) -> String {
        let factor_id = self.add_factor(user_id).await;
        let confirm = ConfirmFactorRequest {
            user_id: user_id.into(),
            factor_id: factor_id.clone(),
            step: 100,
            actor: "self".into(),
            now_unix_ms: NOON_MS,
        };
        self.services.commit.confirm_factor(Request::new(confirm)).await.expect("confirmed");
        factor_id
    }

    /// A one-time bypass, as an administrator would start it.
    pub async fn bypass(&self, user_id: &str, id: &str, client: &str, created_ms: i64) {
        self.tamper(&format!(
            "INSERT INTO bypasses (bypass_id, user_id, client, expires_ms, created_ms, made_by, text) \
             VALUES ('{id}', '{user_id}', '{client}', {}, {created_ms}, 'admin:uid=0', 'phone forgotten')",
            NOON_MS + 300_000
        ))
        .await;
    }

    pub async fn events(&self, kind: &str) -> Vec<AuditEvent> {
        let request = ListAuditRequest { kind: kind.into(), limit: 1000, ..ListAuditRequest::default() };
        self.services.admin.list_audit(Request::new(request)).await.expect("listed").into_inner().events
    }

    pub async fn assert_chain_is_whole(&self) {
        let found =
            self.services.admin.verify_audit(Request::new(VerifyAuditRequest::default())).await.expect("walked");
        let found = found.into_inner();
        assert_eq!(found.first_bad, 0, "{}", found.text);
    }

    /// Past the service, as somebody with the database in hands would.
    pub async fn tamper(&self, statement: &str) {
        match &self.section.url {
            user_store::StoreUrl::Sqlite(path) => {
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
                let pool = sqlx::SqlitePool::connect_with(options).await.expect("the file opens");
                for trigger in ["audit_no_update", "audit_no_delete", "checkpoints_no_update", "checkpoints_no_delete"]
                {
                    let drop = sqlx::AssertSqlSafe(format!("DROP TRIGGER IF EXISTS {trigger}"));
                    sqlx::raw_sql(drop).execute(&pool).await.expect("dropped");
                }
                sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned())).execute(&pool).await.expect("changed");
                pool.close().await;
            }
            user_store::StoreUrl::Postgres(_) => {
                let mut connection = self.postgres_connection().await;
                let drop = "DROP TRIGGER IF EXISTS audit_no_change ON audit; \
                            DROP TRIGGER IF EXISTS checkpoints_no_change ON audit_checkpoints";
                sqlx::raw_sql(drop).execute(&mut connection).await.expect("dropped");
                let statement = sqlx::AssertSqlSafe(statement.to_owned());
                sqlx::raw_sql(statement).execute(&mut connection).await.expect("changed");
            }
        }
    }

    /// The one number a query finds.
    pub async fn number(&self, query: &str) -> i64 {
        let query = sqlx::AssertSqlSafe(query.to_owned());
        match &self.section.url {
            user_store::StoreUrl::Sqlite(path) => {
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
                let pool = sqlx::SqlitePool::connect_with(options).await.expect("the file opens");
                let number = sqlx::query_scalar(query).fetch_one(&pool).await.expect("a number");
                pool.close().await;
                number
            }
            user_store::StoreUrl::Postgres(_) => {
                let mut connection = self.postgres_connection().await;
                sqlx::query_scalar(query).fetch_one(&mut connection).await.expect("a number")
            }
        }
    }

    pub fn is_sqlite(&self) -> bool {
        matches!(self.section.url, user_store::StoreUrl::Sqlite(_))
    }

    /// How the database would go about a statement whose arguments are all this text.
    pub async fn plan(&self, statement: &str, argument: &str) -> String {
        let statement = (1..=3).fold(statement.to_owned(), |statement, place| {
            statement.replace(&format!("${place}"), &format!("'{argument}'"))
        });
        let lines: Vec<String> = match &self.section.url {
            user_store::StoreUrl::Sqlite(path) => {
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
                let pool = sqlx::SqlitePool::connect_with(options).await.expect("the file opens");
                let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")));
                let rows = rows.fetch_all(&pool).await.expect("a plan");
                pool.close().await;
                rows.iter().map(|row| row.get("detail")).collect()
            }
            user_store::StoreUrl::Postgres(_) => {
                let mut connection = self.postgres_connection().await;
                let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(format!("EXPLAIN {statement}")));
                rows.fetch_all(&mut connection).await.expect("a plan").iter().map(|row| row.get(0)).collect()
            }
        };
        lines.join("\n")
    }

    /// Octets as a statement writes them.
    pub fn octets(&self, octets: &[u8]) -> String {
        let hex = data_encoding::HEXLOWER.encode(octets);
        match &self.section.url {
            user_store::StoreUrl::Sqlite(_) => format!("X'{hex}'"),
            user_store::StoreUrl::Postgres(_) => format!("decode('{hex}', 'hex')"),
        }
    }

    /// Runs a statement as the service would, with its triggers in place; the refusal if there is one.
    pub async fn as_the_service(&self, statement: &'static str) -> Result<(), sqlx::Error> {
        match &self.section.url {
            user_store::StoreUrl::Sqlite(path) => {
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
                let pool = sqlx::SqlitePool::connect_with(options).await?;
                let outcome = sqlx::raw_sql(statement).execute(&pool).await.map(drop);
                pool.close().await;
                outcome
            }
            user_store::StoreUrl::Postgres(_) => {
                let mut connection = self.postgres_connection().await;
                sqlx::raw_sql(statement).execute(&mut connection).await.map(drop)
            }
        }
    }

    /// Makes the database refuse audit events with this reason, as a full disk or a broken index would.
    pub async fn refuse_events_of(&self, reason: &str) {
        let statement = match &self.section.url {
            user_store::StoreUrl::Sqlite(_) => format!(
                "CREATE TRIGGER poison BEFORE INSERT ON audit WHEN NEW.reason = '{reason}' \
                 BEGIN SELECT RAISE(ABORT, 'poison'); END"
            ),
            user_store::StoreUrl::Postgres(_) => {
                format!("ALTER TABLE audit ADD CONSTRAINT poison CHECK (reason <> '{reason}')")
            }
        };
        self.tamper(&statement).await;
    }

    /// Every octet of text and bytes the database holds.
    pub async fn dump(&self) -> Vec<u8> {
        match &self.section.url {
            user_store::StoreUrl::Sqlite(path) => {
                let mut octets = std::fs::read(path).expect("the file");
                octets.extend(std::fs::read(path.with_extension("db-wal")).unwrap_or_default());
                octets
            }
            user_store::StoreUrl::Postgres(_) => {
                let mut connection = self.postgres_connection().await;
                let mut octets = Vec::new();
                for table in [
                    "secrets",
                    "factors",
                    "key_rings",
                    "sessions",
                    "invitations",
                    "api_keys",
                    "settings",
                    "audit",
                    "hashed",
                    "devices",
                    "outbox",
                    "sealed_facts",
                    "sent_codes",
                    "prompts",
                    "messages",
                    "users",
                ] {
                    let sql = sqlx::AssertSqlSafe(format!("SELECT t.*::TEXT AS line FROM {table} t"));
                    let rows: Vec<(String,)> = sqlx::query_as(sql).fetch_all(&mut connection).await.expect("read");
                    for (line,) in rows {
                        octets.extend(line.as_bytes());
                        // Bytes are shown in hexadecimal: also as what they are.
                        for part in line.split(',') {
                            let hex = part.trim_matches(|sign| "\"()\\".contains(sign)).trim_start_matches('x');
                            octets.extend(data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap_or_default());
                        }
                    }
                }
                octets
            }
        }
    }

    /// Takes the lock of the chain's end as another node would, and keeps it.
    pub async fn hold_the_chain(&self) -> sqlx::PgConnection {
        let mut connection = self.postgres_connection().await;
        // As the store's own connections are set up.
        for statement in [
            "SET idle_in_transaction_session_timeout = '5s'",
            "BEGIN",
            "UPDATE audit_head SET sequence = sequence WHERE id = 1",
        ] {
            sqlx::raw_sql(statement).execute(&mut connection).await.expect("held");
        }
        connection
    }

    async fn postgres_connection(&self) -> sqlx::PgConnection {
        self.postgres_connection_in(&self.section.schema).await
    }

    pub async fn postgres_connection_in(&self, schema: &str) -> sqlx::PgConnection {
        use sqlx::{Connection, postgres::PgConnectOptions};
        let user_store::StoreUrl::Postgres(url) = &self.section.url else { panic!("a PostgreSQL store") };
        let options: PgConnectOptions = url.parse().expect("an address");
        let options = options.password(Postgres::PASSWORD).options([("search_path", schema)]);
        sqlx::PgConnection::connect_with(&options).await.expect("connected")
    }
}

/// The seed every test factor has: found nowhere in the clear.
pub const SEED: &[u8; 20] = b"CANARY-seed-7f3a91c2";

#[derive(Clone)]
pub struct Enrolled {
    pub user_id: String,
    pub factor_id: String,
    pub username: String,
}

impl Enrolled {
    pub fn event(&self, transaction_id: &str) -> AuditEvent {
        AuditEvent {
            at_unix_ms: NOON_MS,
            kind: "authentication".into(),
            transaction_id: transaction_id.into(),
            client: "vpn".into(),
            protocol: "radius".into(),
            user_id: self.user_id.clone(),
            username: self.username.clone(),
            result: "success".into(),
            reason: "valid_code".into(),
            method: "code".into(),
            assurance: "code".into(),
            source: "live".into(),
            ..AuditEvent::default()
        }
    }

    pub fn allow(&self, transaction_id: &str, step: u64) -> CommitAllowRequest {
        CommitAllowRequest {
            event: Some(self.event(transaction_id)),
            factor_id: self.factor_id.clone(),
            step,
            source: "10.0.4.3".into(),
            ..CommitAllowRequest::default()
        }
    }
}

pub fn id_of(username: &str) -> String {
    let mut octets = [0_u8; 16];
    for (place, octet) in username.bytes().enumerate() {
        octets[place % 16] ^= octet.rotate_left((place / 16) as u32 + place as u32 % 7);
    }
    format!("entryUUID:{}", uuid::Uuid::from_bytes(octets))
}

pub fn person(username: &str) -> SyncedUser {
    SyncedUser {
        object_id: id_of(username),
        distinguished_name: format!("uid={username},ou=people,dc=corp,dc=example"),
        username: username.into(),
        names: vec![format!("CORP\\{username}"), format!("{username}@corp.example")],
        first_name: "First".into(),
        last_name: format!("Last-{username}"),
        mail: format!("{username}@mail.example"),
        phones: vec![SyncedPhone { kind: "mobile".into(), number: "+49 30 123456".into(), ..SyncedPhone::default() }],
        items: vec!["people".into()],
        ..SyncedUser::default()
    }
}

/// The same with another number.
pub fn with_phone(user: SyncedUser, number: &str) -> SyncedUser {
    SyncedUser {
        phones: vec![SyncedPhone { kind: "mobile".into(), number: number.into(), ..SyncedPhone::default() }],
        ..user
    }
}

pub fn left(object_ids: impl IntoIterator<Item = String>, how: How) -> Vec<LeftObject> {
    object_ids.into_iter().map(|object_id| LeftObject { object_id, how: how.into() }).collect()
}

pub fn people(count: usize) -> Vec<SyncedUser> {
    (0..count).map(|number| person(&format!("user{number:03}"))).collect()
}
