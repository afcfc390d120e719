//! The cookie, the form token, and what has been proven so far.
//!
//! ```text
//! (nobody) -- password --> code ------- right code -----------> full
//!                    |       \-- security answers --> answers
//!                    |                                   | (no method yet)
//!                     \--> invitation -- redeemed --> enrolling -- code proven --> full
//!                      \-- (settings: open) ------------^
//! ```
//!
//! Every arrow makes a new id (V-80); the old one is ended in the store first. The store knows a session by the hash of its id, so
//! what it holds lets nobody in. Before the password there is no session: a cookie of its own ties the sign-in form to the browser.
//!
//! An administrator in the console has a session of another kind, under another cookie: neither is worth anything in the place of the
//! other.

use crate::app::{App, STORE_LIMIT, within};
use crate::texts::Texts;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use domain::{Language, TransactionId};
use http::header::{COOKIE, HeaderMap, HeaderValue};
use prost::Message;
use proto::user_store::{EndSessionRequest, GetSessionRequest, PutSessionRequest, Session};
use proto::verification::Ask;
use service_kit::grpc::idempotent;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tonic::Status;

const COOKIE_NAME: &str = "__Host-twinlock";
const CONSOLE_COOKIE_NAME: &str = "__Host-twinlock-console";
const FORM_COOKIE_NAME: &str = "__Host-twinlock-form";

/// FP-10, V-80.
const IDLE_MS: i64 = 15 * 60_000;
const ABSOLUTE_MS: i64 = 8 * 3_600_000;
/// With the password alone: long enough to find the phone or the letter with the invitation.
const UNFINISHED_MS: i64 = 10 * 60_000;
/// With what the settings ask for before the first method: long enough to install an app.
const ENROLLING_MS: i64 = 3_600_000;
/// A session's end is moved when it would move by this much: not every page is a write to the store.
const TOUCH_MS: i64 = 60_000;

/// 256 random bits that only the browser knows. No `Debug`.
#[derive(Clone)]
pub(crate) struct SessionId(String);

/// What has been proven, and what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The password; an answer of this attempt is waited for.
    Code { transaction: TransactionId, step: u32 },
    /// The password, of somebody without a method; an invitation is waited for.
    Invitation,
    /// As much as the settings ask for before the first method is added.
    Enrolling,
    /// The password and security answers: enough to look, never enough to add a method (V-86).
    Answers,
    /// Both locks.
    Full,
    /// An API key, at the console; it is looked at anew for each page.
    Console,
}

/// A session that is in force.
pub(crate) struct Live {
    id: SessionId,
    revision: u64,
    pub stage: Stage,
    pub session: Session,
}

impl SessionId {
    fn new(app: &App) -> Self {
        Self(BASE64URL_NOPAD.encode(&app.random::<32>()))
    }

    /// Only what we could have made ourselves.
    fn parse(value: &str) -> Option<Self> {
        let octets = BASE64URL_NOPAD.decode(value.as_bytes()).ok()?;
        (octets.len() == 32).then(|| Self(value.to_owned()))
    }

    fn from_cookie(headers: &HeaderMap, name: &str) -> Option<Self> {
        let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
        let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.filter(|(found, _)| *found == name).find_map(|(_, value)| Self::parse(value))
    }

    fn hash(&self) -> Vec<u8> {
        Sha256::digest(self.0.as_bytes()).to_vec()
    }
}

impl Stage {
    /// `None`: a stage this version does not know proves nothing.
    fn of(session: &Session) -> Option<Self> {
        match session.stage.as_str() {
            "password" if session.transaction_id.is_empty() => Some(Self::Invitation),
            "password" => Some(Self::Code { transaction: session.transaction_id.parse().ok()?, step: session.step }),
            "enrolling" => Some(Self::Enrolling),
            "answers" => Some(Self::Answers),
            "full" => Some(Self::Full),
            "console" => Some(Self::Console),
            _ => None,
        }
    }

    fn write(self, session: &mut Session) {
        (session.transaction_id, session.step) = match self {
            Self::Code { transaction, step } => (transaction.to_string(), step),
            Self::Invitation | Self::Enrolling | Self::Answers | Self::Full | Self::Console => {
                session.asked.clear();
                (String::new(), 0)
            }
        };
        session.stage = match self {
            Self::Code { .. } | Self::Invitation => "password",
            Self::Enrolling => "enrolling",
            Self::Answers => "answers",
            Self::Full => "full",
            Self::Console => "console",
        }
        .to_owned();
    }

    /// Signed in: the account can be seen.
    pub fn is_signed_in(self) -> bool {
        matches!(self, Self::Answers | Self::Full)
    }

    fn end_ms(self, created_ms: i64, now_ms: i64) -> i64 {
        match self {
            Self::Code { .. } | Self::Invitation => created_ms + UNFINISHED_MS,
            Self::Enrolling => (now_ms + IDLE_MS).min(created_ms + ENROLLING_MS),
            Self::Answers | Self::Full | Self::Console => (now_ms + IDLE_MS).min(created_ms + ABSOLUTE_MS),
        }
    }
}

impl Live {
    /// What the forms of this session carry.
    pub fn form_token(&self) -> &str {
        &self.session.csrf_token
    }

    /// The person's own language, where they have one that is spoken here.
    pub fn texts(&self) -> Option<&'static Texts> {
        Language::new(&self.session.language).ok().as_ref().and_then(Texts::of)
    }

    /// The cookie that belongs to it. It ends with the browser, and in the store long before.
    pub fn cookie(&self) -> HeaderValue {
        let name = if self.stage == Stage::Console { CONSOLE_COOKIE_NAME } else { COOKIE_NAME };
        cookie(name, &self.id)
    }
}

/// Whoever has a session, as the request's cookie says. Moves its end when it is used.
pub(crate) async fn load(app: &App, headers: &HeaderMap) -> Result<Option<Live>, Status> {
    let live = load_by(app, headers, COOKIE_NAME).await?;
    Ok(live.filter(|live| live.stage != Stage::Console))
}

/// The same of the console.
pub(crate) async fn load_console(app: &App, headers: &HeaderMap) -> Result<Option<Live>, Status> {
    let live = load_by(app, headers, CONSOLE_COOKIE_NAME).await?;
    Ok(live.filter(|live| live.stage == Stage::Console))
}

/// The same for a page that fetches itself: the end is not moved, for nobody need be there (V-80).
pub(crate) async fn load_console_unused(app: &App, headers: &HeaderMap) -> Result<Option<Live>, Status> {
    let live = find_by(app, headers, CONSOLE_COOKIE_NAME).await?;
    Ok(live.filter(|live| live.stage == Stage::Console))
}

async fn load_by(app: &App, headers: &HeaderMap, cookie_name: &str) -> Result<Option<Live>, Status> {
    let Some(mut live) = find_by(app, headers, cookie_name).await? else { return Ok(None) };
    let end_ms = live.stage.end_ms(live.session.created_unix_ms, app.now_ms());
    if end_ms - live.session.expires_unix_ms >= TOUCH_MS
        && let Err(status) = save(app, &mut live).await
    {
        // Another request of the same session was first, or the store is away: this one is as good as before.
        tracing::debug!(code = ?status.code(), "session not prolonged");
    }
    Ok(Some(live))
}

async fn find_by(app: &App, headers: &HeaderMap, cookie_name: &str) -> Result<Option<Live>, Status> {
    let Some(id) = SessionId::from_cookie(headers, cookie_name) else { return Ok(None) };
    let now_ms = app.now_ms();
    let request = idempotent(GetSessionRequest { id_hash: id.hash(), now_unix_ms: now_ms });
    let reply = within(STORE_LIMIT, request, |request| app.deps.portal_data.get_session(request)).await?;
    let Some(session) = reply.session.filter(|session| session.expires_unix_ms > now_ms) else { return Ok(None) };
    let Some(stage) = Stage::of(&session) else { return Ok(None) };
    Ok(Some(Live { id, revision: reply.revision, stage, session }))
}

/// Starts a session for whoever has just proven the password.
pub(crate) async fn open(app: &App, person: Session, stage: Stage) -> Result<Live, Status> {
    let created_unix_ms = app.now_ms();
    begin(app, Session { created_unix_ms, ..person }, stage).await
}

async fn begin(app: &App, person: Session, stage: Stage) -> Result<Live, Status> {
    let session = Session {
        csrf_token: HEXLOWER.encode(&app.random::<16>()),
        pending_factor_id: String::new(),
        pending_device_id: String::new(),
        pending_phone_id: String::new(),
        ..person
    };
    let mut live = Live { id: SessionId::new(app), revision: 0, stage, session };
    save(app, &mut live).await?;
    Ok(live)
}

/// More was proven: a new session under a new id instead of the old one. One that was at that stage already lives no longer for it.
pub(crate) async fn promote(app: &App, old: Live, stage: Stage) -> Result<Live, Status> {
    end(app, &old).await?;
    match old.stage == stage {
        true => begin(app, old.session, stage).await,
        false => open(app, old.session, stage).await,
    }
}

/// Writes a changed session. Fails where another request changed it first.
pub(crate) async fn save(app: &App, live: &mut Live) -> Result<(), Status> {
    let now_ms = app.now_ms();
    live.stage.write(&mut live.session);
    live.session.expires_unix_ms = live.stage.end_ms(live.session.created_unix_ms, now_ms);
    let request = PutSessionRequest {
        id_hash: live.id.hash(),
        expected_revision: live.revision,
        session: Some(live.session.clone()),
        now_unix_ms: now_ms,
    };
    let reply = within(STORE_LIMIT, request, |request| app.deps.portal_data.put_session(request)).await?;
    live.revision = reply.revision;
    Ok(())
}

/// Ends it in the store: the cookie is worth nothing from now on, wherever it is.
pub(crate) async fn end(app: &App, live: &Live) -> Result<(), Status> {
    let request = idempotent(EndSessionRequest { id_hash: live.id.hash() });
    within(STORE_LIMIT, request, |request| app.deps.portal_data.end_session(request)).await.map(drop)
}

/// The open question of a sign-in.
pub(crate) fn asked(session: &Session) -> Option<Ask> {
    Ask::decode(session.asked.as_slice()).ok().filter(|_| !session.asked.is_empty())
}

/// Keeps the question with the session, so that its page can be shown again.
pub(crate) fn ask(session: &mut Session, ask: &Ask) {
    session.asked = ask.encode_to_vec();
}

/// Takes the cookie from the browser.
pub(crate) fn no_cookie() -> HeaderValue {
    HeaderValue::from_static("__Host-twinlock=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0")
}

/// The same of the console.
pub(crate) fn no_console_cookie() -> HeaderValue {
    HeaderValue::from_static("__Host-twinlock-console=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0")
}

// ---- forms

/// Ties the sign-in form to one browser before there is a session.
pub(crate) struct FormCookie {
    id: SessionId,
    fresh: bool,
}

impl FormCookie {
    /// The one the browser has, or a new one.
    pub fn of(app: &App, headers: &HeaderMap) -> Self {
        match Self::found(headers) {
            Some(found) => found,
            None => Self { id: SessionId::new(app), fresh: true },
        }
    }

    pub fn found(headers: &HeaderMap) -> Option<Self> {
        SessionId::from_cookie(headers, FORM_COOKIE_NAME).map(|id| Self { id, fresh: false })
    }

    /// A hash of the cookie: only the page we sent to the browser that has it can know this, and nothing need be stored.
    pub fn token(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(b"twinlock sign-in form\0");
        hash.update(self.id.0.as_bytes());
        HEXLOWER.encode(&hash.finalize())
    }

    /// To be set, where the browser does not have it yet.
    pub fn cookie(&self) -> Option<HeaderValue> {
        self.fresh.then(|| cookie(FORM_COOKIE_NAME, &self.id))
    }
}

pub(crate) fn same_token(given: &str, expected: &str) -> bool {
    !expected.is_empty() && bool::from(given.as_bytes().ct_eq(expected.as_bytes()))
}

fn cookie(name: &str, id: &SessionId) -> HeaderValue {
    let text = format!("{name}={}; Path=/; Secure; HttpOnly; SameSite=Strict", id.0);
    HeaderValue::try_from(text).expect("base64url and fixed words")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, line.parse().expect("a value"));
        }
        headers
    }

    #[test]
    fn a_cookie_is_what_we_could_have_made_or_nothing() {
        let good = BASE64URL_NOPAD.encode(&[7; 32]);
        let found = |lines: &[&str]| SessionId::from_cookie(&headers(lines), COOKIE_NAME).map(|id| id.0);
        assert_eq!(found(&[&format!("a=b; __Host-twinlock={good}; c=d")]).as_ref(), Some(&good));
        assert_eq!(found(&["a=b", &format!("__Host-twinlock={good}")]).as_ref(), Some(&good), "HTTP/2 splits them");
        for bad in ["", "abc", &good[1..], &format!("{good}A"), &format!("{}=", &good[1..]), "../../etc/passwd"] {
            assert_eq!(found(&[&format!("__Host-twinlock={bad}")]), None, "{bad}");
        }
        assert_eq!(found(&[&format!("__Host-twinlock-form={good}")]), None, "the form's cookie is no session");
        assert_eq!(found(&[&format!("twinlock={good}")]), None);
    }

    #[test]
    fn a_session_lives_15_minutes_idle_and_8_hours_in_all() {
        // V-80
        let created = 1_790_000_000_000;
        assert_eq!(Stage::Full.end_ms(created, created), created + 15 * 60_000);
        assert_eq!(Stage::Full.end_ms(created, created + 8 * 3_600_000 - 60_000), created + 8 * 3_600_000);
        assert_eq!(Stage::Invitation.end_ms(created, created + 60_000), created + 10 * 60_000, "not prolonged by use");
    }

    #[test]
    fn a_stage_is_what_it_was_written_as_and_an_unknown_one_proves_nothing() {
        let transaction = TransactionId(uuid::Uuid::from_u128(7));
        let others = [Stage::Invitation, Stage::Enrolling, Stage::Answers, Stage::Full, Stage::Console];
        for stage in others.into_iter().chain([Stage::Code { transaction, step: 2 }]) {
            let mut session = Session::default();
            stage.write(&mut session);
            assert_eq!(Stage::of(&session), Some(stage));
        }
        for unknown in ["", "admin", "FULL"] {
            assert_eq!(Stage::of(&Session { stage: unknown.to_owned(), ..Session::default() }), None);
        }
        let broken = Session { stage: "password".into(), transaction_id: "nope".into(), ..Session::default() };
        assert_eq!(Stage::of(&broken), None);
    }

    #[test]
    fn tokens_are_equal_only_whole_and_an_empty_one_is_none() {
        assert!(same_token("abc", "abc"));
        for (given, expected) in [("", ""), ("abc", ""), ("", "abc"), ("ab", "abc"), ("abd", "abc")] {
            assert!(!same_token(given, expected), "{given} {expected}");
        }
    }
}
