//! Users of a directory, known here or not: imported (FS-16), and whose they would be (FS-08).

use super::wait;
use crate::{
    commands::{
        can_be_asked,
        client::settings,
        confirmed,
        settings::{read, with_reason},
    },
    connect::Connection,
    failure::{Exit, Failure},
    output::{Output, printable, say},
};
use clap::Args;
use domain::settings::{Chosen, ImportError, ImportVerdict, Settings, SyncItem, SyncState};
use domain::{ObjectId, ObjectName, Reason};
use proto::directory::{FindUsersRequest, FoundUser, HoldersReply, HoldersRequest};
use proto::user_store::{ApplySettingsRequest, KnownUser, KnownUsersRequest};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

/// Of one question.
const PAGE: u32 = 1_000;

#[derive(Debug, Clone, Args)]
pub struct Import {
    directory: ObjectName,
    /// Whom, in any form of the name, or by id.
    #[arg(value_name = "NAME", required_unless_present_any = ["search", "filter", "below", "group"])]
    names: Vec<String>,
    /// The sync item that names them from then on; made where there is none.
    #[arg(long, value_name = "ITEM")]
    into: ObjectName,
    /// Whoever has this in username, first or last name or mail address.
    #[arg(long, value_name = "TEXT", conflicts_with = "names")]
    search: Option<String>,
    /// Whoever fits an LDAP filter: '(department=Sales)'.
    #[arg(long, conflicts_with = "names")]
    filter: Option<String>,
    /// Whoever lies below a container.
    #[arg(long, value_name = "DN", conflicts_with = "names")]
    below: Option<String>,
    /// Whom a group names as its members, not those of groups in it.
    #[arg(long, value_name = "DN", conflicts_with_all = ["names", "search", "filter", "below"])]
    group: Option<String>,
    /// Users who are known go to the item, too; otherwise they are left as they are.
    #[arg(long)]
    update: bool,
    /// Only say who would be imported.
    #[arg(long)]
    dry_run: bool,
    /// Ask for no run.
    #[arg(long)]
    no_run: bool,
    /// Why, for the audit. Asked for on a terminal where the item exempts its users from the second factor.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    reason: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Clone, Args)]
pub struct Owner {
    /// In any form.
    name: String,
    /// Where they are looked for; in all directories that have sync items if absent.
    #[arg(long)]
    directory: Option<ObjectName>,
    /// By the items of this document, which need not be applied.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
}

pub async fn import(import: Import, connection: &mut Connection, output: Output) -> Result<(), Failure> {
    let found = found(&import, connection).await?;
    let known = known(connection, &import.directory, &found).await?;
    let mut settings = settings(connection).await?;
    let chosen: Vec<Chosen> = found.iter().filter_map(|user| chosen(user, &known)).collect();
    let verdicts = settings.import(&import.directory, &import.into, &chosen, import.update).map_err(refused)?;
    let records: Vec<Value> =
        found.iter().zip(&verdicts).map(|(user, verdict)| record(user, *verdict, known.get(&user.object_id))).collect();
    let count = |wanted: ImportVerdict| verdicts.iter().filter(|verdict| **verdict == wanted).count();
    let new = count(ImportVerdict::Import);
    let sentence = format!(
        "{new} to be imported into {}, {} known and left as they are, {} named by it before",
        import.into,
        count(ImportVerdict::Known),
        count(ImportVerdict::Listed)
    );
    let figures = json!({ "item": import.into, "import": new, "known": count(ImportVerdict::Known),
                          "listed": count(ImportVerdict::Listed), "dry_run": import.dry_run });
    output.summed(&["username", "verdict", "name", "mail", "sync_item", "dn"], records, &sentence, figures);
    if new == 0 {
        return Ok(());
    }
    if !import.dry_run {
        confirmed(&format!("{new} users are to be imported into {}.", import.into), import.yes)?;
    }
    apply(connection, &settings, &import).await?;
    let on = settings.sync_items.iter().any(|it| it.name == import.into && it.state == SyncState::On);
    if import.dry_run || import.no_run || !on {
        return Ok(());
    }
    let how = wait::How { accept_source: false, preview: false, changes: false };
    wait::ask(connection, import.into.as_str(), how).await?;
    say("a run was asked for; see `twinlock sync status`");
    Ok(())
}

pub async fn owner(owner: Owner, connection: &mut Connection, output: Output) -> Result<(), Failure> {
    let mut settings = match &owner.settings {
        Some(file) => {
            toml::from_str(&read(file)?).map_err(|error| Failure::no(format!("{}: {error}", file.display())))?
        }
        None => settings(connection).await?,
    };
    // FS-21: what was renamed is known by its id.
    for source in super::status(connection).await?.sources {
        let items = settings.sync_items.iter_mut().filter(|item| item.directory.as_str() == source.directory);
        items.for_each(|item| proto::pins::apply(&source.pins, item));
    }
    let mut reason = Reason::UnknownUser;
    for directory in places(&settings, owner.directory.as_ref())? {
        let items: Vec<&SyncItem> = settings.sync_items.iter().filter(|item| item.directory == *directory).collect();
        let items_json = items.iter().filter_map(|item| serde_json::to_string(item).ok()).collect();
        let request = HoldersRequest { directory: directory.to_string(), name: owner.name.clone(), items_json };
        let reply = connection.directories.holders(request).await?.into_inner();
        match Reason::from_code(&reply.reason) {
            _ if reply.reason.is_empty() => return answer(connection, output, directory, &items, reply).await,
            Reason::UnknownUser => {}
            other => reason = other,
        }
    }
    let exit = if matches!(reason, Reason::UnknownUser | Reason::AmbiguousUser) { Exit::No } else { Exit::Unreachable };
    Err(Failure::new(exit, reason.sentence()))
}

/// The directories to look in.
fn places<'a>(settings: &'a Settings, only: Option<&'a ObjectName>) -> Result<Vec<&'a ObjectName>, Failure> {
    let names = settings.directories.iter().map(|directory| &directory.name);
    let has_items = |name: &&ObjectName| settings.sync_items.iter().any(|item| item.directory == **name);
    let places: Vec<&ObjectName> = match only {
        Some(only) => names.filter(|name| *name == only).collect(),
        None => names.filter(has_items).collect(),
    };
    match (places.is_empty(), only) {
        (true, Some(only)) => Err(Failure::no(format!("there is no directory {only}"))),
        (true, None) => Err(Failure::no("no directory has a sync item")),
        (false, _) => Ok(places),
    }
}

async fn answer(
    connection: &mut Connection,
    output: Output,
    directory: &ObjectName,
    items: &[&SyncItem],
    reply: HoldersReply,
) -> Result<(), Failure> {
    let person = reply.person.unwrap_or_default();
    let object_id = person.subject.map(|subject| subject.object_id).unwrap_or_default();
    let user = FoundUser { object_id, ..FoundUser::default() };
    let known = known(connection, directory, std::slice::from_ref(&user)).await?.remove(&user.object_id);
    let answers = items.iter().zip(&reply.items);
    let owner = answers.clone().find(|(item, answer)| item.state == SyncState::On && answer.holds);
    let owner = owner.map(|(item, _)| item.name.as_str());
    let records = answers.map(
        |(item, answer)| json!({ "item": item.name, "state": item.state, "holds": answer.holds, "why": answer.why }),
    );
    let now = known.as_ref().map(|known| known.sync_item.as_str());
    let would = owner.map_or("no item would own".to_owned(), |owner| format!("{owner} would own"));
    let is = match now {
        None => "is no user here".to_owned(),
        Some("") => "is of no item now".to_owned(),
        Some(now) => format!("is of {now} now"),
    };
    let sentence = printable(&format!("{would} {} ({}), who {is}", person.username, person.distinguished_name));
    let figures = json!({ "directory": directory, "username": person.username, "dn": person.distinguished_name,
                          "owner": owner, "now": now });
    output.summed(&["item", "state", "holds", "why"], records.collect(), &sentence, figures);
    match owner {
        Some(_) => Ok(()),
        None => Err(Failure::no("no item that is on has the user")),
    }
}

/// All of them, or why not.
async fn found(import: &Import, connection: &mut Connection) -> Result<Vec<FoundUser>, Failure> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    // Each page is read anew: what one could not read, the next may.
    let (mut all, mut nobody, mut unread) = (Vec::new(), Vec::new(), BTreeSet::new());
    let searched = import.names.is_empty().then(Vec::new);
    for names in import.names.chunks(PAGE as usize).map(<[String]>::to_vec).chain(searched) {
        let mut request = FindUsersRequest {
            directory: import.directory.to_string(),
            search: text(&import.search),
            filter: text(&import.filter),
            below: text(&import.below),
            group: text(&import.group),
            after: String::new(),
            limit: PAGE,
            names,
        };
        loop {
            let page = connection.directories.find_users(request.clone()).await?.into_inner();
            if page.more {
                return Err(Failure::no("these are more than 10000 users; take a container or a filter as the source"));
            }
            nobody.extend(page.no_users);
            unread.extend(page.unread);
            all.extend(page.users.into_iter().filter(|user| user.object_id.parse::<ObjectId>().is_ok()));
            request.after = page.next;
            if request.after.is_empty() {
                break;
            }
        }
    }
    for why in &unread {
        say(&printable(&format!("warning: not everybody was found: {why}")));
    }
    if nobody.is_empty() {
        return Ok(all);
    }
    let sentence = |none: &proto::directory::NoUser| {
        printable(&format!("{}: {}", none.name, Reason::from_code(&none.reason).sentence()))
    };
    let sentences: Vec<String> = nobody.iter().map(sentence).collect();
    Err(Failure::no(format!("{}\nnothing was changed", sentences.join("\n"))))
}

/// By the id.
async fn known(
    connection: &mut Connection,
    directory: &ObjectName,
    found: &[FoundUser],
) -> Result<HashMap<String, KnownUser>, Failure> {
    let mut known = HashMap::new();
    for part in found.chunks(PAGE as usize) {
        let object_ids = part.iter().map(|user| user.object_id.clone()).collect();
        let request = KnownUsersRequest { directory: directory.to_string(), object_ids };
        let reply = connection.admin.known_users(request).await?.into_inner();
        known.extend(reply.users.into_iter().map(|user| (user.object_id.clone(), user)));
    }
    Ok(known)
}

/// Who was removed comes back like anybody new.
fn chosen(user: &FoundUser, known: &HashMap<String, KnownUser>) -> Option<Chosen> {
    let id: ObjectId = user.object_id.parse().ok()?;
    Some(Chosen { id, known: known.get(&user.object_id).is_some_and(|known| known.state != "removed") })
}

/// Somebody who was first wins.
async fn apply(connection: &mut Connection, settings: &Settings, import: &Import) -> Result<(), Failure> {
    let mut request = ApplySettingsRequest {
        document: toml::to_string(settings).map_err(|error| Failure::no(error.to_string()))?,
        dry_run: import.dry_run,
        actor: connection.actor.clone(),
        reason: import.reason.clone(),
        // As with a document that is applied.
        needs_reason: !import.dry_run && can_be_asked(),
        ..ApplySettingsRequest::default()
    };
    let reply = connection.admin.apply_settings(request.clone()).await?.into_inner();
    let reply = with_reason(connection, &mut request, reply).await?;
    for warning in &reply.warnings {
        say(&printable(&format!("warning: {warning}")));
    }
    if reply.errors.is_empty() {
        return Ok(());
    }
    let behind = reply.errors.iter().any(|error| error.starts_with("revision"));
    Err(Failure::new(if behind { Exit::Conflict } else { Exit::No }, reply.errors.join("\n")))
}

fn refused(error: ImportError) -> Failure {
    Failure::no(error.to_string())
}

fn record(user: &FoundUser, verdict: ImportVerdict, known: Option<&KnownUser>) -> Value {
    json!({
        "username": user.username, "verdict": verdict.code(),
        "name": format!("{} {}", user.first_name, user.last_name).trim(), "mail": user.mail,
        "sync_item": known.map(|known| known.sync_item.as_str()), "dn": user.distinguished_name, "id": user.object_id,
    })
}
