//! Applying a settings document: parse strictly, check each key and keys together, settle every secret, then change all
//! of it in one transaction or nothing. A dry run takes the same way and stops before the change.

use super::{
    Current, attributes, changes, current, current_locked, home_server, removals, secret_place, service_accounts,
    store_secret, weaker, write,
};
use crate::Store;
use crate::admin::REASON_CHARACTERS_MAX;
use crate::audit::{self, NewEvent, printable};
use crate::radius::{reports, rotation};
use crate::rpc::StoreError;
use crate::seal;
use crate::sql::{Session, args};
use crate::sync::pins;
use domain::{
    Secret,
    settings::{
        Client, ClientProtocol, Directory, HomeServer, MessageAuthenticator, Problem, SecretSource, ServiceAccount,
        Settings, Severity, Target,
    },
};
use proto::user_store::{ApplySettingsReply, ApplySettingsRequest};
use std::collections::{BTreeMap, BTreeSet};

/// RFC 2865 section 3 wants secrets as good as passwords: these are refused, those below the second warned about.
const SHARED_SECRET_MIN: usize = 8;
const SHARED_SECRET_GOOD: usize = 16;
const SHARED_SECRET_MAX: usize = 128;
const GENERATED_CHARACTERS: usize = 32;
/// The longest a client is only observed.
pub const OBSERVE_DAYS_MAX: i64 = 90;
/// A document larger than this is a mistake.
const DOCUMENT_MAX: usize = 4 << 20;

/// Refused for these reasons; nothing was changed.
struct Refusal(Vec<String>);

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self(vec![reason])
    }
}

/// A document that may be applied, with what has to be done to the secrets.
struct Plan {
    next: Settings,
    changes: Vec<String>,
    warnings: Vec<String>,
    /// To be stored.
    secrets: BTreeMap<String, Secret>,
    /// Of those, made here.
    generated: BTreeSet<String>,
    /// No longer spoken of.
    removed: Vec<String>,
}

pub async fn apply(store: &Store, request: ApplySettingsRequest) -> Result<ApplySettingsReply, StoreError> {
    let mut secrets: BTreeMap<String, Secret> =
        request.secrets.into_iter().map(|(name, secret)| (name, secret.into())).collect();
    let next = match parse(&request.document) {
        Ok(next) => next,
        Err(error) => {
            let revision = current(&mut store.database().read().await?).await?.revision;
            return Ok(ApplySettingsReply { revision, errors: vec![error], ..ApplySettingsReply::default() });
        }
    };
    let mut session = match request.dry_run {
        true => store.database().read().await?,
        false => store.database().write().await?,
    };
    let (head, now) = match request.dry_run {
        true => (None, current(&mut session).await?),
        false => (Some(audit::lock(&mut session).await?), current_locked(&mut session).await?),
    };
    let held = session.rows("SELECT name FROM secrets", args![]).await?;
    let held: BTreeSet<String> = held.iter().map(|row| row.get("name")).collect::<Result<_, _>>()?;
    // Not at a dry run: it would say, as often as one likes and unrecorded, whether a guess is right.
    let same = match request.dry_run {
        true => BTreeSet::new(),
        false => unchanged(store, &mut session, &secrets).await?,
    };
    let held = Held { names: held, same, compared: !request.dry_run };
    let plan = match plan(&now, next, &mut secrets, &held, store.clock().now_ms()) {
        Ok(plan) => plan,
        Err(Refusal(errors)) => {
            return Ok(ApplySettingsReply { revision: now.revision, errors, ..ApplySettingsReply::default() });
        }
    };
    let removed_items = removals::removed(&mut session, &now.settings, &plan.next).await?;
    let mut warnings = plan.warnings.clone();
    warnings.extend(service_accounts::warnings_of_all(&mut session, &plan.next).await?);
    match removals::unconfirmed(&removed_items, &request.removed_items) {
        errors if errors.is_empty() => {}
        unconfirmed if request.dry_run => warnings.extend(unconfirmed),
        errors => {
            let revision = now.revision;
            return Ok(ApplySettingsReply { revision, errors, removed_items, ..ApplySettingsReply::default() });
        }
    }
    let weaker = weaker::weaker(&now.settings, &plan.next);
    let reason = printable(request.reason.trim(), REASON_CHARACTERS_MAX);
    if request.needs_reason && !request.dry_run && reason.is_empty() && !weaker.is_empty() {
        let errors = vec![format!("reason: is missing; say why security is weakened by {}", weaker.join(", "))];
        return Ok(ApplySettingsReply { revision: now.revision, errors, weaker, ..ApplySettingsReply::default() });
    }
    let mut reply = ApplySettingsReply {
        revision: now.revision,
        changes: plan.changes.clone(),
        weaker,
        warnings,
        removed_items,
        changed_directories: changed_directories(&now.settings, &plan.next),
        ..ApplySettingsReply::default()
    };
    let Some(head) = head.filter(|_| !plan.changes.is_empty()) else { return Ok(reply) };
    carry_out(store, &mut session, &now, &plan).await?;
    let event = NewEvent::administrative(
        store.clock().now_ms(),
        "settings.applied",
        &request.actor,
        format!("revision {}\n{}{}", now.revision + 1, because(&reason), plan.changes.join("\n")),
    );
    audit::append(&mut session, head, vec![event]).await?;
    session.commit().await?;
    reply.revision = now.revision + 1;
    store.teller().settings_changed(reply.revision);
    let shown = plan.secrets.into_iter().filter(|(name, _)| plan.generated.contains(name));
    reply.generated = shown.map(|(name, secret)| (name, secret.into())).collect();
    Ok(reply)
}

fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!("reason: {reason}\n") }
}

/// New ones, and those that are not as they were.
fn changed_directories(old: &Settings, next: &Settings) -> Vec<String> {
    let (old, next) = (old.clone().with_secrets_kept(), next.clone().with_secrets_kept());
    let changed = next.directories.iter().filter(|after| old.directory(after.name.as_str()) != Some(*after));
    changed.map(|directory| directory.name.to_string()).collect()
}

/// Those that are in the store already. Not of a client whose secret is being changed: the document ends that.
async fn unchanged(
    store: &Store,
    session: &mut Session,
    given: &BTreeMap<String, Secret>,
) -> Result<BTreeSet<String>, StoreError> {
    let changing = rotation::previous_secrets(store, session).await?;
    let changing: BTreeSet<String> = changing.keys().map(|client| format!("client.{client}.secret")).collect();
    let mut same = BTreeSet::new();
    for (name, secret) in given.iter().filter(|(name, _)| !changing.contains(*name)) {
        let Some(row) = session.row("SELECT sealed FROM secrets WHERE name = $1", args![name]).await? else { continue };
        let stored = store.seal().open_field(secret_place(name), &row.get::<Vec<u8>>("sealed")?)?;
        if stored.expose() == secret.expose() {
            same.insert(name.clone());
        }
    }
    Ok(same)
}

async fn carry_out(store: &Store, session: &mut Session, now: &Current, plan: &Plan) -> Result<(), StoreError> {
    for (name, secret) in &plan.secrets {
        store_secret(store, session, name, secret).await?;
    }
    for name in &plan.removed {
        session.execute("DELETE FROM secrets WHERE name = $1", args![name]).await?;
    }
    for row in session.rows("SELECT client FROM learned", args![]).await? {
        let client: String = row.get("client")?;
        if !teaches_the_same(&now.settings, &plan.next, &client) {
            session.execute("DELETE FROM learned WHERE client = $1", args![client]).await?;
        }
    }
    for row in session.rows("SELECT DISTINCT client FROM remembered", args![]).await? {
        let client: String = row.get("client")?;
        if !remembers_the_same(&now.settings, &plan.next, &client) {
            session.execute("DELETE FROM remembered WHERE client = $1", args![client]).await?;
        }
    }
    pins::forget(session, &plan.next).await?;
    rotation::end_with_apply(session, &plan.next, &plan.secrets).await?;
    reports::forget_removed(session, &plan.next).await?;
    write(session, &plan.next, now.revision).await
}

/// What a client or a home server taught holds only while it is the same device, set to learn.
fn teaches_the_same(old: &Settings, next: &Settings, name: &str) -> bool {
    let same_client = |before: &Client, after: &Client| before.sources == after.sources;
    let same_server = |before: (&Target, &HomeServer), after: (&Target, &HomeServer)| {
        let where_to =
            |(target, server): (&Target, &HomeServer)| (target.name.clone(), server.place(), server.transport);
        where_to(before) == where_to(after)
    };
    if let Some((before, after)) = old.client(name).zip(next.client(name)) {
        return same_client(before, after) && after.message_authenticator == MessageAuthenticator::Auto;
    }
    let servers = home_server(old, name).zip(home_server(next, name));
    servers.is_some_and(|(before, after)| {
        same_server(before, after) && after.1.message_authenticator == MessageAuthenticator::Auto
    })
}

/// What was remembered by one rule opens nothing by another, nor an application of the same name (V-50, FB-03).
fn remembers_the_same(old: &Settings, next: &Settings, name: &str) -> bool {
    let rule =
        |settings: &Settings| settings.client(name).map(|it| (it.protocol, it.target.clone(), it.remember.clone()));
    rule(old) == rule(next)
}

fn home_servers(settings: &Settings) -> impl Iterator<Item = (&Target, &HomeServer)> {
    settings.targets.iter().flat_map(|target| target.servers.iter().map(move |server| (target, server)))
}

/// Reads a document; what is wrong with its form is one line with the line, the key, what was found and what is allowed.
pub fn parse(document: &str) -> Result<Settings, String> {
    if document.len() > DOCUMENT_MAX {
        return Err(format!("the document has {} octets; allowed are {DOCUMENT_MAX}", document.len()));
    }
    toml::from_str(document).map_err(|error| {
        let place = error.span().map(|span| {
            let before = &document[..span.start.min(document.len())];
            let line = before.matches('\n').count();
            let written = document.lines().nth(line).unwrap_or_default();
            let key = written.split('=').next().unwrap_or_default().trim();
            if key.is_empty() || key.starts_with('#') {
                format!("line {}: ", line + 1)
            } else {
                format!("line {}: {key}: ", line + 1)
            }
        });
        let found = error.span().and_then(|span| document.get(span)).unwrap_or_default();
        let problem = match error.message() {
            // The reader of networks only says that it did not understand.
            "invalid IP address syntax" => format!("found {found}; allowed are networks such as \"10.0.4.0/28\""),
            message => message.replace('\n', "; "),
        };
        format!("{}{problem}", place.unwrap_or_default())
    })
}

/// The secrets of the store by name; `same` are those that came with the document as they are stored.
struct Held {
    names: BTreeSet<String>,
    same: BTreeSet<String>,
    compared: bool,
}

/// What applying means, or why not. `given` are the secrets that came with the document.
fn plan(
    now: &Current,
    mut next: Settings,
    given: &mut BTreeMap<String, Secret>,
    held: &Held,
    now_ms: i64,
) -> Result<Plan, Refusal> {
    if let Some(revision) = next.revision.filter(|revision| *revision != now.revision) {
        return Err(format!(
            "revision: the document is of revision {revision}, the store is at {}; export it again, or remove the line",
            now.revision
        )
        .into());
    }
    next.revision = None;
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    for problem in problems(&next) {
        match problem.severity {
            Severity::Error => errors.push(problem.to_string()),
            Severity::Warning => warnings.push(problem.to_string()),
        }
    }
    errors.extend(observed_for_too_long(&next, now_ms));
    let clients = next.clients.iter().filter(|client| client.protocol == ClientProtocol::Radius);
    let servers = home_servers(&next).map(|(target, server)| target.secret_name(server));
    let shared: BTreeSet<String> =
        clients.map(|client| format!("client.{}.secret", client.name)).chain(servers).collect();
    let moved = secrets_that_would_move(&now.settings, &next);
    let (mut secrets, mut generated, mut spoken_of) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
    for (name, source) in next.secrets() {
        spoken_of.insert(name.clone());
        let secret = match (given.remove(&name), source) {
            (Some(secret), _) => secret,
            (None, SecretSource::Keep) => {
                if !held.names.contains(&name) {
                    errors.push(format!(
                        "{name}: is \"keep\", but the store holds none; write \"generate\" or \"file:PATH\""
                    ));
                } else if moved.contains(&name) {
                    errors.push(format!(
                        "{name}: is \"keep\", but it would go to other servers or less protected; give it again with \"file:PATH\""
                    ));
                }
                continue;
            }
            // Made once: the document applied again must not void what devices were given.
            (None, SecretSource::Generate) if held.names.contains(&name) && !moved.contains(&name) => continue,
            (None, SecretSource::Generate) => {
                generated.insert(name.clone());
                generate()
            }
            (None, SecretSource::File(path)) => {
                errors.push(format!("{name}: the content of {} did not come with the document", path.display()));
                continue;
            }
        };
        match shared.contains(&name) {
            true => check_shared(&name, &secret, &mut errors, &mut warnings),
            false if secret.is_empty() => errors.push(format!("{name}: is empty")),
            false => {}
        }
        if !held.same.contains(&name) {
            secrets.insert(name, secret);
        }
    }
    errors.extend(given.keys().map(|name| format!("{name}: a secret was given that the document does not speak of")));
    if !errors.is_empty() {
        return Err(Refusal(errors));
    }
    keep_pins(&now.settings, &mut next);
    let mut changes = changes::changes(&now.settings, &next);
    let replaced = secrets.keys().filter(|name| held.names.contains(*name));
    let unless = if held.compared { "" } else { ", unless it is the one stored" };
    changes.extend(replaced.map(|name| format!("changed {name}: a new secret{unless}")));
    let removed = held.names.iter().filter(|name| !spoken_of.contains(*name)).cloned().collect();
    Ok(Plan { next: next.with_secrets_kept(), changes, warnings, secrets, generated, removed })
}

/// Secrets that would go where they did not go before: to a new server, past another CA, or without TLS. Who may change the
/// settings may not know them, and could have them sent to a server of their own (V-83, CVE-2024-5967).
fn secrets_that_would_move(old: &Settings, next: &Settings) -> BTreeSet<String> {
    let directories = next.directories.iter().filter(|after| {
        old.directory(after.name.as_str()).is_some_and(|before| after.sends_password_elsewhere_than(before))
    });
    let providers = next.providers.iter().filter(|after| {
        let before = old.providers.iter().find(|before| before.name == after.name);
        before.is_some_and(|before| after.sends_secret_elsewhere_than(before))
    });
    // User-Passwords are hidden with the secret: who has it, or is asked with it, learns them. A new address has a new name; a dot
    // may stand in the name of a target and of a host, so the name alone does not say that it is the same place.
    let places: BTreeMap<String, (&Target, &HomeServer)> =
        home_servers(old).map(|(target, server)| (target.secret_name(server), (target, server))).collect();
    let servers = home_servers(next).filter_map(|(target, after)| {
        let name = target.secret_name(after);
        let (owner, before) = places.get(&name)?;
        let same = owner.name == target.name
            && before.transport == after.transport
            && before.accounting_port() == after.accounting_port();
        (!same).then_some(name)
    });
    let moved: Vec<_> = directories.collect();
    // With a certificate more, somebody more logs in with it.
    let accounts = next.clients.iter().flat_map(|client| {
        let before = old.client(client.name.as_str());
        let elsewhere = before.is_some_and(|before| before.target != client.target)
            || moved.iter().any(|directory| directory.name == client.target);
        let moves = move |account: &&ServiceAccount| {
            let known = before.and_then(|it| it.service_accounts.iter().find(|known| known.name == account.name));
            let new = |mark: &String| known.is_some_and(|known| !known.certificates.contains(mark));
            elsewhere || account.certificates.iter().any(new)
        };
        client.service_accounts.iter().filter(moves).map(|account| account.secret_name(&client.name))
    });
    let accounts: Vec<_> = accounts.collect();
    let synchronised = next.directories.iter().filter(|after| after.sync_bind.is_some()).filter(|after| {
        let before = old.directory(after.name.as_str()).map(Directory::as_synchronised);
        before.is_some_and(|before| after.as_synchronised().sends_password_elsewhere_than(&before))
    });
    let synchronised = synchronised.map(Directory::sync_password_name);
    let directories = moved.iter().map(|directory| format!("directory.{}.query_bind.password", directory.name));
    let directories = directories.chain(synchronised);
    let providers = providers.map(|provider| format!("provider.{}.secret", provider.name));
    directories.chain(providers).chain(servers).chain(accounts).collect()
}

/// The id a service account was found with stays, unless the document says another (L-22).
fn keep_pins(old: &Settings, next: &mut Settings) {
    for client in &mut next.clients {
        let Some(before) = old.client(client.name.as_str()).filter(|before| before.target == client.target) else {
            continue;
        };
        for account in client.service_accounts.iter_mut().filter(|account| account.id.is_none()) {
            let known = before.service_accounts.iter().find(|known| known.name == account.name);
            account.id = known.and_then(|known| known.id.clone());
        }
    }
}

/// Everything that is wrong with a document by itself: its keys, what they say together, its filters, DNs, attributes and dates.
pub fn problems(settings: &Settings) -> Vec<Problem> {
    let of_directories = settings.directories.iter().flat_map(|directory| {
        let name = &directory.name;
        [
            (format!("directory.{name}.user_filter"), &directory.user_filter),
            (format!("directory.{name}.group_filter"), &directory.group_filter),
            (format!("directory.{name}.container_filter"), &directory.container_filter),
        ]
    });
    let of_items = settings.sync_items.iter().map(|item| (format!("sync_item.{}.filter", item.name), &item.filter));
    let written = of_directories.chain(of_items).filter(|(_, text)| !text.is_empty());
    let mut problems = settings.problems();
    problems.extend(attributes::problems(settings));
    problems.extend(written.filter_map(|(key, text)| {
        let error = text.parse::<ldap_wire::Filter>().err()?;
        let text = format!("found {text:?}; {error}; a filter is written as in RFC 4515");
        Some(Problem { severity: Severity::Error, key, text })
    }));
    problems.extend(settings.directories.iter().filter_map(|directory| {
        let (base, key) = (&directory.base, format!("directory.{}.base", directory.name));
        let error = base.parse::<ldap_wire::Dn>().err()?;
        let text = format!("found {base:?}; {error}; a DN is written as in RFC 4514");
        Some(Problem { severity: Severity::Error, key, text })
    }));
    let ends = settings.clients.iter().flat_map(|client| {
        let ends =
            [("when_unavailable_until", &client.when_unavailable_until), ("observe_until", &client.observe_until)];
        ends.into_iter().filter_map(move |(field, text)| Some((client, field, text.as_ref()?)))
    });
    problems.extend(ends.filter_map(|(client, field, text)| {
        time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).err()?;
        let key = format!("client.{}.{field}", client.name);
        let text = format!("found {text:?}; a time is written as in RFC 3339, such as \"2027-01-31T18:00:00+01:00\"");
        Some(Problem { severity: Severity::Error, key, text })
    }));
    problems
}

/// FB-04: observing ends by itself, and soon.
pub fn observed_for_too_long(settings: &Settings, now_ms: i64) -> Vec<String> {
    let clients = settings.clients.iter().filter_map(|client| {
        let text = client.observe_until.as_ref()?;
        let until = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
        let seconds = until.unix_timestamp() - now_ms.div_euclid(1000);
        (seconds > OBSERVE_DAYS_MAX * 24 * 3600).then(|| {
            let key = format!("client.{}.observe_until", client.name);
            format!("{key}: found {text:?}; allowed is a time within {OBSERVE_DAYS_MAX} days")
        })
    });
    clients.collect()
}

/// Why a shared secret is refused.
pub fn good_shared_secret(name: &str, secret: &Secret) -> Result<(), String> {
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    check_shared(name, secret, &mut errors, &mut warnings);
    errors.pop().map_or(Ok(()), Err)
}

fn check_shared(name: &str, secret: &Secret, errors: &mut Vec<String>, warnings: &mut Vec<String>) {
    let found = secret.len();
    if found < SHARED_SECRET_MIN {
        errors.push(format!(
            "{name}: has fewer than {SHARED_SECRET_MIN} characters; use {GENERATED_CHARACTERS}, or \"generate\""
        ));
    } else if found > SHARED_SECRET_MAX {
        errors.push(format!("{name}: has more than {SHARED_SECRET_MAX} characters"));
    } else if found < SHARED_SECRET_GOOD {
        warnings.push(format!(
            "{name}: has fewer than {SHARED_SECRET_GOOD} characters and can be guessed from recorded packets"
        ));
    }
}

/// 32 signs that survive every configuration file: 160 random bits in base32.
pub fn generate() -> Secret {
    let text = data_encoding::BASE32_NOPAD.encode(&seal::random::<20>()).to_ascii_lowercase();
    debug_assert_eq!(text.len(), GENERATED_CHARACTERS);
    Secret::from(text)
}

/// The document as it stands, ready to be applied again.
pub fn export(now: Current) -> Result<String, StoreError> {
    let mut settings = now.settings.with_secrets_kept();
    settings.revision = Some(now.revision);
    toml::to_string(&settings).map_err(|_| StoreError::Broken("the settings cannot be written"))
}
