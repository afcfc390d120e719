//! Tries a directory out, and says in sentences what was found (FD-11).

use directory::inspect::{Authentication, Inspection, Judgement, Trial};
use directory::{Directory, TypedName};
use domain::settings::{self, BindKind, SecretSource};
use domain::{DirectoryRef, ObjectName, Reason, Secret};
use lockout_guard::{LockoutGuard, Turn};
use proto::directory::{InspectReply, Inspected};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;

/// How long a try may wait for others of the same person.
const ASKED_LIMIT: Duration = Duration::from_secs(5);
/// Where the settings that are saved have no guard: nobody guesses passwords by trying a directory out.
const GUARD: settings::LockoutGuard = settings::LockoutGuard { wrong_passwords: 3, window_minutes: 30 };
/// Whose tries they are where the servers are not those of the saved directory, whatever name the draft has.
const NOT_SAVED: &str = "draft";

/// A directory of settings that are not saved. One that keeps its password gets that of the saved one of this name, and only where it
/// goes where it went before: who may change settings may not know it (V-83).
pub(super) fn draft(
    json: &str,
    query_password: Option<Secret>,
    saved: impl Fn(&str) -> Option<Arc<Directory>>,
) -> Result<Directory, Status> {
    let settings: settings::Directory =
        serde_json::from_str(json).map_err(|error| Status::invalid_argument(format!("directory: {error}")))?;
    let needs = settings.query_bind.kind != BindKind::Anonymous;
    let kept = query_password.is_none() && matches!(settings.query_bind.password, Some(SecretSource::Keep));
    let made = match saved(settings.name.as_str()).filter(|_| needs && kept) {
        Some(saved) if settings.sends_password_elsewhere_than(saved.settings()) => {
            return Err(Status::invalid_argument(
                "query_bind.password: is \"keep\", but it would go to other servers or less protected; give it again",
            ));
        }
        Some(saved) => saved.draft_with_its_password(settings),
        None => Directory::draft(settings, query_password),
    };
    made.map_err(|error| Status::invalid_argument(service_kit::chain(&error)))
}

/// As synchronisation would connect, where it has an account of its own whose password is given (FD-09): the gateways do not have it.
pub(super) fn synchronisation(
    settings: &settings::Directory,
    password: Option<Secret>,
) -> Result<Option<Directory>, Status> {
    match (&settings.sync_bind, password) {
        (Some(_), Some(password)) => Directory::draft(settings.as_synchronised(), Some(password))
            .map(Some)
            .map_err(|error| Status::invalid_argument(format!("sync_bind: {}", service_kit::chain(&error)))),
        (None, Some(_)) => {
            Err(Status::invalid_argument("a password for sync_bind was given, and there is no sync_bind"))
        }
        (_, None) => Ok(None),
    }
}

/// Whose tries a password counts among, and how many there are (L-56): a draft says neither, for it could say anything.
pub(super) struct Tries {
    directory: ObjectName,
    limits: settings::LockoutGuard,
}

impl Tries {
    pub fn of(tried: &settings::Directory, saved: Option<&settings::Directory>) -> Self {
        match saved.filter(|saved| tried.urls.iter().any(|url| saved.urls.iter().any(|it| host(it) == host(url)))) {
            Some(saved) => Self { directory: saved.name.clone(), limits: saved.lockout_guard.unwrap_or(GUARD) },
            None => Self { directory: ObjectName::new(NOT_SAVED).expect("a name"), limits: GUARD },
        }
    }
}

/// Of `ldaps://HOST:PORT`, in small letters.
fn host(url: &str) -> String {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/');
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|it| it.is_ascii_digit()) => host,
        _ => authority,
    };
    host.to_ascii_lowercase()
}

/// Somebody's password is one try of those that the gateways have as well (L-56).
pub(super) async fn directory(
    directory: &Directory,
    tries: &Tries,
    lockout_guard: &LockoutGuard,
    mut trial: Trial,
) -> InspectReply {
    let turn = match reserved(directory, tries, lockout_guard, &trial).await {
        Ok(turn) => turn,
        Err(reason) => {
            trial.password = None;
            let mut reply = told(&directory.inspect(&trial).await);
            let text = format!("The password was not tried ({}): {}", reason.code(), reason.sentence());
            reply.lines.push(Inspected { about: "authentication".into(), verdict: "bad".into(), text });
            reply.good = false;
            return reply;
        }
    };
    let inspection = directory.inspect(&trial).await;
    if let Some(turn) = turn {
        match inspection.findings.as_ref().map(|findings| &findings.authentication) {
            Some(Authentication::Accepted) => turn.ended(None),
            Some(Authentication::Refused(error)) => turn.ended(Some(error.reason())),
            _ => turn.undecided(),
        }
    }
    told(&inspection)
}

/// Nobody to try a password of, or whom nobody finds, is no try.
async fn reserved(
    directory: &Directory,
    tries: &Tries,
    lockout_guard: &LockoutGuard,
    trial: &Trial,
) -> Result<Option<Turn>, Reason> {
    let (Some(name), Some(_)) = (&trial.name, &trial.password) else { return Ok(None) };
    let Ok(name) = TypedName::parse(name, directory.settings()) else { return Ok(None) };
    let Ok(entry) = directory.resolve(&name).await else { return Ok(None) };
    let subject = DirectoryRef { directory: tries.directory.clone(), ..entry.subject };
    lockout_guard.reserve(Some(tries.limits), &subject, Instant::now() + ASKED_LIMIT).await.map(Some)
}

fn told(inspection: &Inspection) -> InspectReply {
    let lines = inspection.lines().into_iter().map(|line| Inspected {
        about: line.about.code().to_owned(),
        verdict: verdict(line.verdict).to_owned(),
        text: line.text,
    });
    InspectReply { good: inspection.is_good(), lines: lines.collect() }
}

fn verdict(judgement: Judgement) -> &'static str {
    match judgement {
        Judgement::Good => "good",
        Judgement::Doubtful => "doubtful",
        Judgement::Bad => "bad",
    }
}
