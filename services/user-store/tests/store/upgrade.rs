//! A store of before the synchronisation by directory, brought to this version with all its users.

use crate::fixture::{self, Fixture, id_of, people, person};
use crate::sync::status;
use proto::user_store::{ApplyBatchRequest, FinishRunReply, SyncedGroup};
use sqlx::Connection;
use sqlx::migrate::Migrator;
use std::borrow::Cow;

/// The last version whose runs were of items.
const BEFORE: i64 = 7;
const GROUP_DN: &str = "cn=staff,ou=groups,dc=corp,dc=example";

/// The last one that remembered one number of a user.
const ONE_NUMBER: i64 = 14;
const NUMBER_OF_BEFORE: &str =
    "INSERT INTO phones_before (user_id, number, changed_ms) VALUES ('id-1', '+49 30 7', 9999999999999)";

/// The tables as they were.
fn tables_until(version: i64) -> Migrator {
    let all = sqlx::migrate!();
    let migrations = all.migrations.iter().filter(|migration| migration.version <= version).cloned().collect();
    Migrator { migrations: Cow::Owned(migrations), ..all }
}

/// Users, a group, runs and a list that waits, as the version before wrote them.
fn rows_of_before() -> String {
    let mut rows = String::new();
    for number in 0..30 {
        let (name, id) = (format!("user{number:03}"), id_of(&format!("user{number:03}")));
        let dn = person(&name).distinguished_name;
        let (state, by) = match number {
            28 => ("disabled", "sync"),
            29 => ("disabled", "admin:uid=0"),
            _ => ("enabled", ""),
        };
        rows += &format!(
            "INSERT INTO users (user_id, directory, object_id, username, username_key, distinguished_name, dn_key, first_name, \
             last_name, mail, phone, search, state, state_by, state_since_ms, state_text, sync_item, first_run, last_run, content, \
             revision, created_ms, changed_ms, own_phone, epoch) VALUES ('id-{number}', 'corp', '{id}', '{name}', '{name}', '{dn}', \
             '{dn}', 'First', 'Last-{name}', '{name}@mail.example', '+49 30 123456', '{name}', '{state}', '{by}', 1, '', 'people', \
             'old', 'old', '', 1, 1, 1, '{}', 7);",
            if number == 3 { "+4930901820" } else { "" }
        );
        rows += &format!(
            "INSERT INTO factors (factor_id, user_id, kind, serial, serial_key, manufacturer, model, algorithm, digits, \
             period_seconds, seed, pending, last_step, drift, failures, open_ms, created_ms, last_used_ms, revision) \
             VALUES ('factor-{number}', 'id-{number}', 'totp', '', '', '', '', 'SHA1', 6, 30, '', FALSE, 5, 0, 0, 0, 1, 1, 1);"
        );
    }
    let member = person("user001").distinguished_name;
    rows + &format!(
        "INSERT INTO user_groups (directory, object_id, distinguished_name, dn_key, name, sync_item, last_run, content) \
         VALUES ('corp', '{0}', '{GROUP_DN}', '{GROUP_DN}', 'staff', 'people', 'old', '');\
         INSERT INTO group_members (directory, object_id, member_key) VALUES ('corp', '{0}', '{member}');\
         INSERT INTO sync_runs (run_id, sync_item, directory, mode, started_ms, finished_ms, state, error, added, changed, \
         unchanged, disabled, removed, parked, approval_id) \
         VALUES ('old', 'people', 'corp', 'full', 1, 1, 'parked', '', 1, 1, 1, 0, 0, 1, 'list');\
         INSERT INTO sync_doubles (run_id, name_key) VALUES ('old', 'x');\
         INSERT INTO approvals (approval_id, sync_item, action, created_ms, expires_ms, state) \
         VALUES ('list', 'people', 'disable', 1, 9999999999999, 'open');\
         INSERT INTO approval_users (approval_id, user_id, last_run) VALUES ('list', 'id-5', 'old');",
        id_of("group staff")
    )
}

/// Rules need a fresh store; the one of before stands beside it, with its keys.
pub async fn users_keep_their_ids_factors_and_states(lab: Fixture) {
    let (section, _folder) = match &lab.section.url {
        user_store::StoreUrl::Sqlite(path) => {
            let before = path.with_file_name("before.db");
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&before).create_if_missing(true);
            let mut connection = sqlx::SqliteConnection::connect_with(&options).await.expect("made");
            tables_until(BEFORE).run_direct(None, &mut connection, false).await.expect("made");
            let keys = format!(
                "ATTACH DATABASE '{}' AS fresh; INSERT INTO data_keys SELECT * FROM fresh.data_keys; \
                 INSERT INTO canary SELECT * FROM fresh.canary; INSERT INTO sealed_facts SELECT * FROM fresh.sealed_facts; \
                 INSERT INTO audit_head SELECT * FROM fresh.audit_head;",
                path.display()
            );
            sqlx::raw_sql(sqlx::AssertSqlSafe(keys)).execute(&mut connection).await.expect("copied");
            sqlx::raw_sql(sqlx::AssertSqlSafe(rows_of_before())).execute(&mut connection).await.expect("written");
            // Without the other one beside it.
            connection.close().await.expect("closed");
            let mut connection = sqlx::SqliteConnection::connect_with(&options).await.expect("opened");
            tables_until(ONE_NUMBER).run_direct(None, &mut connection, false).await.expect("brought on");
            sqlx::raw_sql(NUMBER_OF_BEFORE).execute(&mut connection).await.expect("written");
            connection.close().await.expect("closed");
            let url = user_store::StoreUrl::Sqlite(before);
            (user_store::StoreSection { url, ..lab.section.clone() }, None::<()>)
        }
        user_store::StoreUrl::Postgres(_) => {
            let schema = format!("{}_before", lab.section.schema);
            let mut connection = lab.postgres_connection_in(&schema).await;
            let create = format!("CREATE SCHEMA {schema}");
            sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(&mut connection).await.expect("made");
            tables_until(BEFORE).run_direct(None, &mut connection, false).await.expect("made");
            for table in ["data_keys", "canary", "sealed_facts", "audit_head"] {
                let copy = format!("INSERT INTO {table} SELECT * FROM {}.{table}", lab.section.schema);
                sqlx::raw_sql(sqlx::AssertSqlSafe(copy)).execute(&mut connection).await.expect("copied");
            }
            sqlx::raw_sql(sqlx::AssertSqlSafe(rows_of_before())).execute(&mut connection).await.expect("written");
            tables_until(ONE_NUMBER).run_direct(None, &mut connection, false).await.expect("brought on");
            sqlx::raw_sql(NUMBER_OF_BEFORE).execute(&mut connection).await.expect("written");
            (user_store::StoreSection { schema, ..lab.section.clone() }, None)
        }
    };
    let store = fixture::open(&section).await.expect("the store of before opens");
    let now = Fixture::over(store.clone(), section);
    // S-19
    let remembered = "SELECT COUNT(*) FROM numbers_before WHERE user_id = 'id-1' AND kind = 'phone' \
                      AND number = '+49 30 7' AND changed_ms = 9999999999999";
    assert_eq!(now.number(remembered).await, 1);
    now.with_settings().await;
    for (name, user_id, state) in
        [("user001", "id-1", "enabled"), ("user028", "id-28", "disabled"), ("user029", "id-29", "disabled")]
    {
        let user = now.user(name).await.expect("there");
        let summary = user.user.expect("with a summary");
        assert_eq!((summary.user_id.as_str(), summary.state.as_str(), user.factors.len()), (user_id, state, 1));
    }
    assert_eq!(now.user("user003").await.expect("there").phone, "+4930901820");
    assert_eq!(now.user("user001").await.expect("there").groups, ["staff"]);
    assert_eq!((status(&now).await.runs.len(), status(&now).await.approvals.len()), (0, 0));
    // The first run by directory: nobody's phone or membership changed, though both are written otherwise now.
    let run_id = now.begin().await.expect("begun");
    let staff = SyncedGroup {
        object_id: id_of("group staff"),
        distinguished_name: GROUP_DN.to_uppercase(),
        name: "staff".into(),
        sid: "S-1-5-21-1".into(),
        members: vec![id_of("user001")],
    };
    now.send(&run_id, ApplyBatchRequest { groups: vec![staff], ..Default::default() }).await;
    let reply = now.batch(&run_id, people(28)).await;
    assert_eq!((reply.added, reply.changed), (0, 28));
    let mut gone = vec![id_of("user028"), id_of("user029")];
    gone.sort();
    assert_eq!(now.unseen(&run_id).await, gone);
    assert_eq!(now.finish(&run_id, true).await, FinishRunReply::default());
    assert_eq!(now.mails().await, []);
    assert_eq!(now.number("SELECT COUNT(*) FROM users WHERE epoch <> 7").await, 0, "nothing that is remembered ends");
    assert_eq!(now.user("user001").await.expect("there").groups, ["staff"]);
    store.close().await;
}
