//! Tokens from a file (FI-01): each row gets a verdict, a dry run stops there, and what is applied is applied as a whole. The same
//! file again changes nothing; what is there with other values is replaced only when that is asked for.

use super::tokens::{FACTORS_MAX, serial_key};
use super::{actor, find_names};
use crate::Store;
use crate::audit::{self, NewEvent, printable};
use crate::places;
use crate::rpc::StoreError;
use crate::sql::{Session, args};
use domain::{CodeAlgorithm, CodeForm, Secret};
use proto::user_store::{ImportReply, ImportTokensRequest, RowVerdict, TokenRow};
use std::collections::{BTreeSet, HashMap};
use subtle::ConstantTimeEq;
use tonic::Status;

pub const ROWS_MAX: usize = 50_000;
/// RFC 4226 section 4 wants 16 octets and more; tokens of before have 10.
const SEED_OCTETS: std::ops::RangeInclusive<usize> = 10..=64;
const SERIAL_SIGNS_MAX: usize = 64;

/// Seeds sealed or opened between two statements: the database ends a transaction that says nothing for seconds.
const AT_ONCE: usize = 256;

/// A row of the file that can be a token.
struct Token {
    serial: String,
    key: String,
    seed: Secret,
    kind: &'static str,
    algorithm: CodeAlgorithm,
    digits: u32,
    period_seconds: u32,
    /// HOTP: the counter of the next code.
    counter: i64,
    username: String,
    manufacturer: String,
    model: String,
}

impl Token {
    fn of(row: &TokenRow) -> Result<Self, String> {
        let serial = row.serial.trim().to_owned();
        let printable = serial.bytes().all(|sign| sign.is_ascii_graphic());
        if !(1..=SERIAL_SIGNS_MAX).contains(&serial.len()) || !printable {
            return Err(format!("serial: allowed are 1 to {SERIAL_SIGNS_MAX} printable signs"));
        }
        let seed = row.seed.clone().map(Secret::from).unwrap_or_default();
        if !SEED_OCTETS.contains(&seed.len()) {
            let (least, most) = (SEED_OCTETS.start(), SEED_OCTETS.end());
            return Err(format!("seed: found {} octets; allowed are {least} to {most}", seed.len()));
        }
        let algorithm = match row.algorithm.as_str() {
            "" => Some(CodeAlgorithm::Sha1),
            code => CodeAlgorithm::from_code(code),
        };
        let algorithm = algorithm.ok_or("algorithm: allowed are SHA1, SHA256, SHA512")?;
        let kind = match row.kind.as_str() {
            "" | "totp" => "totp",
            "hotp" => "hotp",
            other => return Err(format!("kind: found {other:?}; allowed are totp and hotp")),
        };
        let digits = if row.digits == 0 { 6 } else { row.digits };
        let usual = kind == "hotp" || row.period_seconds == 0;
        let period_seconds = if usual { 30 } else { row.period_seconds };
        CodeForm::new(algorithm, digits, period_seconds).map_err(|error| error.to_string())?;
        let counter = i64::try_from(row.counter).ok().filter(|counter| *counter < i64::MAX);
        Ok(Self {
            key: serial_key(&serial),
            serial,
            seed,
            kind,
            algorithm,
            digits,
            period_seconds: if kind == "hotp" { 0 } else { period_seconds },
            counter: counter.ok_or("counter: is too large")?,
            username: row.username.trim().to_owned(),
            manufacturer: shown(&row.manufacturer),
            model: shown(&row.model),
        })
    }

    /// Marks before the first code that counts.
    fn last_step(&self) -> i64 {
        if self.kind == "hotp" { self.counter - 1 } else { -1 }
    }
}

fn shown(text: &str) -> String {
    printable(text.trim(), 128)
}

/// A token of the store with one of the file's serials.
struct Known {
    factor_id: String,
    user_id: String,
    form: (String, String, u32, u32),
    seed: Secret,
}

/// What becomes of a row.
enum Fate<'a> {
    Add(&'a Token, String),
    Change(&'a Token, &'a Known, String),
    Unchanged,
    Refused(String),
}

pub async fn import_tokens(store: &Store, request: ImportTokensRequest) -> Result<ImportReply, StoreError> {
    let actor = actor(&request.actor)?;
    if request.rows.len() > ROWS_MAX {
        let found = request.rows.len();
        return Err(Status::invalid_argument(format!("rows: found {found}; allowed are {ROWS_MAX}")).into());
    }
    let tokens: Vec<Result<Token, String>> = request.rows.iter().map(Token::of).collect();
    let mut session = match request.dry_run {
        true => store.database().read().await?,
        false => store.database().write().await?,
    };
    let head = match request.dry_run {
        true => None,
        false => Some(audit::lock(&mut session).await?),
    };
    let good = || tokens.iter().flatten();
    let known = known(store, &mut session, good().map(|token| token.key.as_str())).await?;
    let names = good().map(|token| token.username.as_str()).filter(|name| !name.is_empty());
    let users = find_names(&mut session, names).await?;
    let mut held = held(&mut session, users.values().flatten()).await?;
    let mut seen = BTreeSet::new();
    let mut fates = Vec::with_capacity(tokens.len());
    for token in &tokens {
        fates.push(match token {
            Err(reason) => Fate::Refused(reason.clone()),
            Ok(token) if !seen.insert(&token.key) => Fate::Refused("the serial stands twice in the file".into()),
            Ok(token) => match user_of(token, &users) {
                Err(reason) => Fate::Refused(reason),
                Ok(user_id) => fate(token, user_id, known.get(&token.key), request.overwrite, &mut held),
            },
        });
    }
    let mut reply = verdicts(&request.rows, &fates);
    let Some(head) = head.filter(|_| reply.added + reply.changed > 0) else {
        reply.applied = !request.dry_run;
        return Ok(reply);
    };
    let now_ms = store.clock().now_ms();
    let changed = carry_out(store, &mut session, &fates, now_ms).await?;
    let detail = format!(
        "{} rows: {} added, {} changed, {} unchanged, {} refused\n{}",
        request.rows.len(),
        reply.added,
        reply.changed,
        reply.unchanged,
        reply.refused,
        told(&fates)
    );
    audit::append(&mut session, head, vec![NewEvent::administrative(now_ms, "tokens.imported", &actor, detail)])
        .await?;
    session.commit().await?;
    for user_id in &changed {
        store.teller().user_changed(user_id);
    }
    reply.applied = true;
    Ok(reply)
}

async fn known(
    store: &Store,
    session: &mut Session,
    keys: impl Iterator<Item = &str>,
) -> Result<HashMap<String, Known>, StoreError> {
    let head = "SELECT factor_id, user_id, serial_key, kind, algorithm, digits, period_seconds, seed FROM factors \
                WHERE serial_key IN";
    let mut known = HashMap::new();
    let keys: Vec<&str> = keys.collect();
    for some in keys.chunks(AT_ONCE) {
        for row in session.rows_in(head, some.iter().copied(), "", &[]).await? {
            let (factor_id, user_id): (String, String) = (row.get("factor_id")?, row.get("user_id")?);
            let owner = places::owned(&user_id, &factor_id);
            let seed = store.seal().open_field(places::seed(&owner), &row.get::<Vec<u8>>("seed")?)?;
            let digits = crate::users::small(&row, "digits")?;
            let period_seconds = crate::users::small(&row, "period_seconds")?;
            let form = (row.get("kind")?, row.get("algorithm")?, digits, period_seconds);
            known.insert(row.get("serial_key")?, Known { factor_id, user_id, form, seed });
        }
    }
    Ok(known)
}

async fn held<'a>(
    session: &mut Session,
    users: impl Iterator<Item = &'a String>,
) -> Result<HashMap<String, i64>, StoreError> {
    let mut held: HashMap<String, i64> = HashMap::new();
    let head = "SELECT user_id FROM factors WHERE user_id IN";
    for row in session.rows_in(head, users.map(String::as_str), "", &[]).await? {
        *held.entry(row.get("user_id")?).or_default() += 1;
    }
    Ok(held)
}

/// Whose it is to be; empty = the stock.
fn user_of(token: &Token, users: &HashMap<String, Vec<String>>) -> Result<String, String> {
    if token.username.is_empty() {
        return Ok(String::new());
    }
    match users.get(&token.username).map(Vec::as_slice) {
        None | Some([]) => Err(format!("no user has the name {:?}", token.username)),
        Some([user_id]) => Ok(user_id.clone()),
        Some(_) => Err(format!("more than one user has the name {:?}", token.username)),
    }
}

fn fate<'a>(
    token: &'a Token,
    user_id: String,
    known: Option<&'a Known>,
    overwrite: bool,
    held: &mut HashMap<String, i64>,
) -> Fate<'a> {
    let mut room_for = |user_id: &str| {
        let held = held.entry(user_id.to_owned()).or_default();
        *held += 1;
        user_id.is_empty() || *held <= FACTORS_MAX
    };
    let full = || Fate::Refused(format!("the user has {FACTORS_MAX} factors already"));
    let Some(known) = known else {
        return if room_for(&user_id) { Fate::Add(token, user_id) } else { full() };
    };
    let form = (token.kind, token.algorithm.code(), token.digits, token.period_seconds);
    let known_form = (known.form.0.as_str(), known.form.1.as_str(), known.form.2, known.form.3);
    let same_seed = bool::from(token.seed.expose().ct_eq(known.seed.expose()));
    // A file that names nobody does not take a token away from who has it.
    let user_id = if user_id.is_empty() { known.user_id.clone() } else { user_id };
    let same_user = user_id == known.user_id;
    match (same_seed && form == known_form && same_user, overwrite) {
        (true, _) => Fate::Unchanged,
        (false, false) => {
            Fate::Refused("is there already with other values; it is replaced only with overwrite".into())
        }
        (false, true) if same_user || room_for(&user_id) => Fate::Change(token, known, user_id),
        (false, true) => full(),
    }
}

fn verdicts(rows: &[TokenRow], fates: &[Fate<'_>]) -> ImportReply {
    let mut reply = ImportReply::default();
    for (row, fate) in rows.iter().zip(fates) {
        let (verdict, text) = match fate {
            Fate::Add(..) => (&mut reply.added, ("add", String::new())),
            Fate::Change(..) => (&mut reply.changed, ("change", String::new())),
            Fate::Unchanged => (&mut reply.unchanged, ("unchanged", String::new())),
            Fate::Refused(reason) => (&mut reply.refused, ("refused", reason.clone())),
        };
        *verdict += 1;
        let (verdict, text) = text;
        let name = shown(&row.serial);
        reply.verdicts.push(RowVerdict { row: row.row, name, verdict: verdict.into(), text });
    }
    reply
}

/// Serials, as far as they fit into an event.
fn told(fates: &[Fate<'_>]) -> String {
    let serials = |fate: &Fate<'_>| match fate {
        Fate::Add(token, _) => Some(format!("added {}", token.serial)),
        Fate::Change(token, ..) => Some(format!("changed {}", token.serial)),
        Fate::Unchanged | Fate::Refused(_) => None,
    };
    fates.iter().filter_map(serials).collect::<Vec<_>>().join("\n")
}

const INSERT: &str = "INSERT INTO factors (factor_id, user_id, kind, serial, serial_key, manufacturer, model, algorithm, digits, \
    period_seconds, seed, pending, last_step, drift, failures, open_ms, created_ms, last_used_ms, revision)";

/// Writes what was decided; the users it touches.
async fn carry_out(
    store: &Store,
    session: &mut Session,
    fates: &[Fate<'_>],
    now_ms: i64,
) -> Result<BTreeSet<String>, StoreError> {
    let mut touched: BTreeSet<&str> = BTreeSet::new();
    let sealed = |token: &Token, user_id: &str, factor_id: &str| {
        let owner = places::owned(user_id, factor_id);
        store.seal().seal_field(places::seed(&owner), token.seed.expose())
    };
    let mut new = Vec::new();
    for fate in fates {
        match fate {
            Fate::Add(token, user_id) => {
                let factor_id = uuid::Uuid::new_v4().to_string();
                let seed = sealed(token, user_id, &factor_id)?;
                touched.insert(user_id);
                new.push(args![
                    factor_id,
                    user_id,
                    token.kind,
                    &token.serial,
                    &token.key,
                    &token.manufacturer,
                    &token.model,
                    token.algorithm.code(),
                    token.digits,
                    token.period_seconds,
                    seed,
                    !user_id.is_empty(),
                    token.last_step(),
                    0_i64,
                    0_i64,
                    0_i64,
                    now_ms,
                    0_i64,
                    1_i64,
                ]);
                if new.len() == AT_ONCE {
                    session.bulk(INSERT, std::mem::take(&mut new), "").await?;
                }
            }
            Fate::Change(token, known, user_id) => {
                touched.extend([known.user_id.as_str(), user_id.as_str()]);
                // Another seed has no spent codes. Of the same one they stay spent, whoever has it.
                let same_seed = bool::from(token.seed.expose().ct_eq(known.seed.expose()));
                let sql = "UPDATE factors SET user_id = $1, kind = $2, algorithm = $3, digits = $4, period_seconds = $5, \
                           seed = $6, pending = $7, last_step = CASE WHEN $8 THEN last_step ELSE $9 END, drift = 0, \
                           failures = 0, open_ms = 0, revision = revision + 1 WHERE factor_id = $10";
                let arguments = args![
                    user_id,
                    token.kind,
                    token.algorithm.code(),
                    token.digits,
                    token.period_seconds,
                    sealed(token, user_id, &known.factor_id)?,
                    !user_id.is_empty(),
                    same_seed,
                    token.last_step(),
                    &known.factor_id,
                ];
                session.execute(sql, arguments).await?;
            }
            Fate::Unchanged | Fate::Refused(_) => {}
        }
    }
    session.bulk(INSERT, new, "").await?;
    let touched: BTreeSet<String> = touched.into_iter().filter(|id| !id.is_empty()).map(str::to_owned).collect();
    let head = "UPDATE users SET epoch = epoch + 1, revision = revision + 1 WHERE user_id IN";
    session.execute_in(head, touched.iter().map(String::as_str), "", &[]).await?;
    Ok(touched)
}
