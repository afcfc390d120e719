//! Users as rows: how names are compared, what an administrator sees of one, how a state is told in words.

mod more;

use crate::audit::NewEvent;
use crate::rpc::StoreError;
use crate::sql::{Arg, Row, Session, args};
use crate::sync::problems;
use crate::throttle::Counter;
use proto::common::DirectoryRef;
use proto::user_store::{FactorSummary, UserDetail, UserSummary};
use std::collections::HashMap;
use tonic::Status;
use unicode_normalization::UnicodeNormalization;

/// A name as it is compared: NFKC, case folded, space at the ends dropped and inside made one (FU-01). Which account a
/// login means is the directory's to say, never this key's.
pub fn name_key(name: &str) -> String {
    if !name.is_ascii() {
        return folded(name);
    }
    // The same for what composes with nothing, and folds to nothing longer.
    let mut key = String::with_capacity(name.len());
    for word in name.split_whitespace() {
        if !key.is_empty() {
            key.push(' ');
        }
        key.push_str(word);
    }
    key.make_ascii_lowercase();
    key
}

fn folded(name: &str) -> String {
    let lower: String =
        name.nfkc().flat_map(char::to_lowercase).map(|sign| if sign == 'ς' { 'σ' } else { sign }).collect();
    let lower = lower.replace('ß', "ss");
    lower.nfkc().collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a search that looks like a phone number, or a part of one, looks for: its digits as they stand in numbers that are kept
/// (S-57), without what is dialled before them in one country (`0`), from it (`00`), or written for it (`+`).
pub fn dialled(search: &str) -> Option<String> {
    const SEPARATORS: &str = "()[]-\u{2010}\u{2011}\u{2013}/.";
    let written = search.trim().nfkc().collect::<String>().replace("(0)", "");
    let (plus, rest) = written.strip_prefix('+').map_or((false, written.as_str()), |rest| (true, rest));
    let mut digits = String::new();
    for sign in rest.chars() {
        match sign {
            '0'..='9' => digits.push(sign),
            _ if sign.is_whitespace() || SEPARATORS.contains(sign) => {}
            _ => return None,
        }
    }
    let digits = if plus { format!("+{digits}") } else { digits.trim_start_matches('0').to_owned() };
    (digits.len() >= 3).then_some(digits)
}

/// Is a block in force (FV-25)? -1 = until somebody unblocks, 0 = there is none.
pub fn is_blocked(until_ms: i64, now_ms: i64) -> bool {
    until_ms < 0 || until_ms > now_ms
}

/// The end of a block in words.
pub fn until_text(until_ms: i64) -> String {
    match until_ms {
        ..0 => "somebody unblocks".into(),
        0 => String::new(),
        _ => time_text(until_ms),
    }
}

/// RFC 3339, in UTC.
pub fn time_text(at_ms: i64) -> String {
    let at = time::OffsetDateTime::from_unix_timestamp(at_ms.div_euclid(1000)).ok();
    at.and_then(|it| it.format(&time::format_description::well_known::Rfc3339).ok()).unwrap_or_default()
}

/// A number in the audit, written in whatever way: its last two digits, and of one too short to hide anything none.
pub fn number_shown(number: &str) -> String {
    let digits: Vec<char> = number.chars().filter(char::is_ascii_digit).collect();
    match digits.len() {
        0 => "none".into(),
        1..4 => "…".into(),
        count => format!("…{}", digits[count - 2..].iter().collect::<String>()),
    }
}

/// Refuses what is done for somebody who may not log in: not enabled, or blocked.
pub async fn may_enter(session: &mut Session, user_id: &str, now_ms: i64) -> Result<(), StoreError> {
    let sql = "SELECT state, blocked_until_ms FROM users WHERE user_id = $1";
    let row = session.row(sql, args![user_id]).await?.ok_or_else(|| Status::not_found("no such user"))?;
    match row.get::<String>("state")?.as_str() {
        "enabled" if is_blocked(row.get("blocked_until_ms")?, now_ms) => {
            Err(Status::failed_precondition("the user is blocked").into())
        }
        "enabled" => Ok(()),
        state => Err(Status::failed_precondition(format!("the user is {state}")).into()),
    }
}

/// Ends what somebody has open in the portal, in the transaction that says why (V-23, FV-26, S-22).
pub async fn end_sessions(session: &mut Session, user_id: &str) -> Result<(), sqlx::Error> {
    session.execute("DELETE FROM sessions WHERE user_id = $1", args![user_id]).await.map(drop)
}

/// Why a user is not enabled: by whom, since when, why.
pub fn state_text(by: &str, since_ms: i64, text: &str) -> String {
    let since = time::OffsetDateTime::from_unix_timestamp(since_ms.div_euclid(1000)).ok();
    let since = since.and_then(|it| it.format(&time::format_description::well_known::Rfc3339).ok()).unwrap_or_default();
    match text {
        "" => format!("by {by} since {since}"),
        text => format!("by {by} since {since}: {text}"),
    }
}

/// The username of a user who may change, else why not. The row stays as it is until the transaction ends: whoever changes
/// it holds the chain's lock.
pub async fn enabled_username(session: &mut Session, user_id: &str) -> Result<String, StoreError> {
    let sql = "SELECT username, state FROM users WHERE user_id = $1";
    let row = session.row(sql, args![user_id]).await?.ok_or_else(|| Status::not_found("no such user"))?;
    match row.get::<String>("state")?.as_str() {
        "enabled" => Ok(row.get("username")?),
        state => Err(Status::failed_precondition(format!("the user is {state}")).into()),
    }
}

/// Was a state set by no hand? Those the directory may change again (FS-26).
pub fn by_machine(by: &str) -> bool {
    matches!(by, "" | "sync" | "directory")
}

/// Takes somebody's state from exactly what was read to another, with its event. The caller holds the chain's lock.
pub struct StateChange<'a> {
    pub user_id: &'a str,
    pub username: &'a str,
    pub from: &'a str,
    /// Who had set that one.
    pub from_by: &'a str,
    pub to: &'a str,
    /// `cli:...`, `api-key:...`, `sync`, `directory`
    pub by: &'a str,
    pub text: &'a str,
}

impl StateChange<'_> {
    /// `None`: somebody was faster.
    pub async fn write(&self, session: &mut Session, now_ms: i64) -> Result<Option<NewEvent>, sqlx::Error> {
        let sql = "UPDATE users SET state = $1, state_by = $2, state_since_ms = $3, state_text = $4, changed_ms = $3, \
                   epoch = epoch + 1, revision = revision + 1 WHERE user_id = $5 AND state = $6 AND state_by = $7";
        let arguments = args![self.to, self.by, now_ms, self.text, self.user_id, self.from, self.from_by];
        if session.execute(sql, arguments).await? != 1 {
            return Ok(None);
        }
        if self.to != "enabled" {
            end_sessions(session, self.user_id).await?;
        }
        let mut detail = format!("state: {} -> {}", self.from, self.to);
        if !self.text.is_empty() {
            detail += &format!(" ({})", self.text);
        }
        let event = NewEvent::administrative(now_ms, "user.state", self.by, detail);
        Ok(Some(event.about(self.user_id, self.username)))
    }
}

/// The account that a name is of, in SQL: without the domain before it and behind it. The indexes of 0014 are over this very
/// expression, which both databases read alike, and so are SQLite's; a column would be stale wherever a node of the version before writes.
macro_rules! account_of {
    ($name:literal) => {
        account_of!(@ concat!("substr(", $name, ", length(rtrim(", $name, ", replace(", $name, ", '\\', ''))) + 1)"))
    };
    (@ $behind:expr) => {
        concat!("substr(", $behind, ", 1, length(", $behind, ") - length(ltrim(", $behind, ", replace(", $behind, ", '@', ''))))")
    };
}

/// Who has one of three names. By keys, as the next: any stranger at a client that lets such people in has them asked.
const NAMED: &str = "SELECT user_id FROM names WHERE name_key IN ($1, $2, $3) \
     UNION ALL SELECT user_id FROM users WHERE username_key IN ($1, $2, $3) LIMIT 1";

/// Who has a name of the account $1; $2 and $3 are [`begins`] of it.
const OF_ACCOUNT_POSTGRES: &str = concat!(
    "SELECT user_id FROM names WHERE ",
    account_of!("name_key"),
    " = $1 UNION ALL SELECT user_id FROM users WHERE ",
    account_of!("username_key"),
    " = $1 LIMIT 1"
);
/// There the first index is only of names with a domain before them (`indexes_sqlite.sql`).
const OF_ACCOUNT_SQLITE: &str = concat!(
    "SELECT user_id FROM names WHERE name_key >= $2 AND name_key < $3 AND name_key NOT LIKE '%\\%' \
     UNION ALL SELECT user_id FROM users WHERE username_key >= $2 AND username_key < $3 AND username_key NOT LIKE '%\\%' \
     UNION ALL SELECT user_id FROM names WHERE name_key LIKE '%\\%' AND ",
    account_of!("name_key"),
    " = $1 UNION ALL SELECT user_id FROM users WHERE username_key LIKE '%\\%' AND ",
    account_of!("username_key"),
    " = $1 LIMIT 1"
);

/// Statements that ask who is named so, as each database has them.
pub fn named(sqlite: bool) -> [&'static str; 2] {
    [NAMED, if sqlite { OF_ACCOUNT_SQLITE } else { OF_ACCOUNT_POSTGRES }]
}

/// Between what every address of an account stands, by octets: `@` and the sign behind it.
fn begins(account: &str) -> [String; 2] {
    [format!("{account}@"), format!("{account}A")]
}

/// Whether anybody has this name, in whatever state they are, or a name of the same account: `ann`, `CORP\ann` and `ann@x` are
/// one to a server that drops domains, so that each of them is known where one is.
pub async fn is_name_of_somebody(session: &mut Session, typed: &str) -> Result<bool, StoreError> {
    let whole = name_key(typed);
    let without_domain = whole.rsplit_once(['\\', '/']).map_or(whole.as_str(), |(_, account)| account);
    let account = without_domain.split_once('@').map_or(without_domain, |(account, _)| account);
    if account.is_empty() {
        // Names no account, so that nobody is proven to have none.
        return Ok(true);
    }
    let [by_name, by_account] = named(session.is_sqlite());
    if session.row(by_name, args![&whole, without_domain, account]).await?.is_some() {
        return Ok(true);
    }
    // Somebody of a trusted domain has `DOMAIN\ann` and addresses, and no bare name.
    let [from, below] = begins(account);
    let arguments = if session.is_sqlite() { args![account, from, below] } else { args![account] };
    Ok(session.row(by_account, arguments).await?.is_some())
}

/// One user with everything but secrets.
pub async fn detail(session: &mut Session, user_id: &str, now_ms: i64) -> Result<Option<UserDetail>, StoreError> {
    let rows = session.rows_in(&format!("{SUMMARY} WHERE u.user_id IN"), [user_id], "", &[]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let user = summaries(session, &rows, now_ms).await?.pop();
    let names = session.rows("SELECT name FROM names WHERE user_id = $1 ORDER BY name_key", args![user_id]).await?;
    // By any of the names that groups may have for them, and the primary one, which no group lists (S-52).
    let groups = "SELECT g.name AS name FROM group_members m \
                  JOIN user_groups g ON g.directory = m.directory AND g.object_id = m.object_id \
                  WHERE m.member_key IN ($1, $2, $3) AND m.directory || '' = $4 \
                  UNION SELECT g.name FROM user_groups g WHERE g.sid <> '' AND g.sid = $5 AND g.directory = $4 ORDER BY name";
    let keys = ["dn_key", "object_id", "sid", "directory", "primary_group"];
    let keys =
        keys.iter().map(|column| Ok(Arg::from(row.get::<String>(column)?))).collect::<Result<_, sqlx::Error>>()?;
    let groups = session.rows(groups, keys).await?;
    let factors = "SELECT factor_id, kind, serial, algorithm, digits, period_seconds, pending, created_ms, last_used_ms, failures, \
                   open_ms FROM factors WHERE user_id = $1 ORDER BY created_ms, factor_id";
    let factors = session.rows(factors, args![user_id]).await?;
    let state: String = row.get("state")?;
    let state_text = match state.as_str() {
        "enabled" => String::new(),
        _ => {
            let text: String = row.get("state_text")?;
            self::state_text(&row.get::<String>("state_by")?, row.get("state_since_ms")?, &text)
        }
    };
    let mut detail = UserDetail {
        user,
        subject: Some(DirectoryRef { directory: row.get("directory")?, object_id: row.get("object_id")? }),
        distinguished_name: row.get("distinguished_name")?,
        names: names.iter().map(|row| row.get("name")).collect::<Result<_, _>>()?,
        groups: groups.iter().map(|row| row.get("name")).collect::<Result<_, _>>()?,
        sync_item: row.get("sync_item")?,
        state_text,
        factors: factors.iter().map(|row| factor_summary(row, now_ms)).collect::<Result<_, _>>()?,
        revision: row.unsigned("revision")?,
        ..UserDetail::default()
    };
    more::fill(session, &mut detail, user_id, now_ms).await?;
    Ok(Some(detail))
}

/// The columns [`summaries`] and [`detail`] read.
pub const SUMMARY: &str = "SELECT u.user_id AS user_id, u.username AS username, u.username_key AS username_key, \
    u.first_name AS first_name, u.last_name AS last_name, u.mail AS mail, u.state AS state, u.directory AS directory, \
    u.object_id AS object_id, u.distinguished_name AS distinguished_name, u.dn_key AS dn_key, u.sid AS sid, u.primary_group AS primary_group, u.phone AS phone, \
    u.sync_item AS sync_item, u.state_by AS state_by, u.state_since_ms AS state_since_ms, u.state_text AS state_text, \
    u.user_group AS user_group, u.revision AS revision FROM users u";

/// Users as a list shows them, in the order of their rows.
pub async fn summaries(session: &mut Session, rows: &[Row], now_ms: i64) -> Result<Vec<UserSummary>, StoreError> {
    let ids: Vec<String> = rows.iter().map(|row| row.get("user_id")).collect::<Result<_, _>>()?;
    let mut factors: HashMap<String, (u32, i64)> = HashMap::new();
    let head = "SELECT user_id, failures, open_ms, pending FROM factors WHERE user_id IN";
    for row in session.rows_in(head, ids.iter().map(String::as_str), "", &[]).await? {
        let entry = factors.entry(row.get("user_id")?).or_default();
        entry.0 += u32::from(!row.get::<bool>("pending")?);
        entry.1 = entry.1.max(counter(&row)?.locked_until_ms(now_ms));
    }
    let head = "SELECT user_id FROM devices WHERE state = 'active' AND user_id IN";
    for row in session.rows_in(head, ids.iter().map(String::as_str), "", &[]).await? {
        factors.entry(row.get("user_id")?).or_default().0 += 1;
    }
    let mut successes: HashMap<String, i64> = HashMap::new();
    let head = "SELECT user_id, last_success_ms FROM guards WHERE user_id IN";
    for row in session.rows_in(head, ids.iter().map(String::as_str), "", &[]).await? {
        successes.insert(row.get("user_id")?, row.get("last_success_ms")?);
    }
    let mut problems = problems::of(session, rows).await?;
    let summary = |(row, user_id): (&Row, &String)| {
        let (factors, locked_until_unix_ms) = factors.get(user_id).copied().unwrap_or_default();
        Ok(UserSummary {
            user_id: user_id.clone(),
            username: row.get("username")?,
            first_name: row.get("first_name")?,
            last_name: row.get("last_name")?,
            mail: row.get("mail")?,
            state: row.get("state")?,
            directory: row.get("directory")?,
            factors,
            locked_until_unix_ms,
            last_success_unix_ms: successes.get(user_id).copied().unwrap_or_default(),
            user_group: row.get("user_group")?,
            sync_problem: problems.remove(user_id).unwrap_or_default(),
        })
    };
    rows.iter().zip(&ids).map(summary).collect()
}

fn factor_summary(row: &Row, now_ms: i64) -> Result<FactorSummary, sqlx::Error> {
    let counter = counter(row)?;
    Ok(FactorSummary {
        factor_id: row.get("factor_id")?,
        method: domain::Method::Code.code().into(),
        algorithm: row.get("algorithm")?,
        digits: small(row, "digits")?,
        period_seconds: small(row, "period_seconds")?,
        pending: row.get("pending")?,
        created_unix_ms: row.get("created_ms")?,
        last_used_unix_ms: row.get("last_used_ms")?,
        consecutive_failures: counter.failures,
        locked_until_unix_ms: counter.locked_until_ms(now_ms),
        kind: row.get("kind")?,
        serial: row.get("serial")?,
    })
}

fn counter(row: &Row) -> Result<Counter, sqlx::Error> {
    Ok(Counter { failures: small(row, "failures")?, open_ms: row.get("open_ms")? })
}

/// A small number of a BIGINT column.
pub fn small(row: &Row, column: &str) -> Result<u32, sqlx::Error> {
    Ok(u32::try_from(row.get::<i64>(column)?).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_for_a_number_looks_for_the_digits_that_are_kept() {
        // S-57
        for (search, looked_for) in [
            ("30 123456", Some("30123456")),
            ("030/1234-56", Some("30123456")),
            ("0049 30 123456", Some("4930123456")),
            (" +49 (0)30 123456", Some("+4930123456")),
            ("(030) 12 34", Some("301234")),
            ("12", None),
            ("0012", None),
            ("ann 030", None),
            ("ann@corp.example", None),
            ("", None),
        ] {
            assert_eq!(dialled(search).as_deref(), looked_for, "{search}");
        }
    }

    #[test]
    fn the_audit_shows_two_digits_of_a_number_and_none_of_a_short_one() {
        for (number, shown) in
            [("+49 30 901820", "…20"), ("030 90-18 (17)", "…17"), ("1234", "…34"), ("112", "…"), ("", "none")]
        {
            assert_eq!(number_shown(number), shown, "{number}");
        }
    }

    #[test]
    fn ascii_takes_a_shorter_way_to_the_same_key() {
        let all: Vec<char> = (0_u8..128).map(char::from).collect();
        for one in &all {
            for other in &all {
                let name = format!("{one}{other} {other}B{one}");
                assert_eq!(name_key(&name), folded(&name), "{name:?}");
            }
        }
    }

    #[test]
    fn names_that_a_person_takes_for_the_same_have_one_key() {
        // FU-01, R-61
        for (one, other) in [
            ("Alice", "aLICE"),
            (" alice ", "alice"),
            ("ＡＬＩＣＥ", "alice"),
            ("Straße", "STRASSE"),
            ("ΟΔΥΣΣΕΥΣ", "οδυσσευς"),
            ("e\u{301}va", "Éva"),
            ("a  b", "A B"),
        ] {
            assert_eq!(name_key(one), name_key(other), "{one} {other}");
        }
        for (one, other) in [("alice", "al\u{131}ce"), ("alice", "\u{430}lice"), ("ann", "anna")] {
            assert_ne!(name_key(one), name_key(other), "{one} {other}");
        }
    }
}
