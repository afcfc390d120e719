//! Mails of a run: to administrators about the run, to users about what it changes of theirs.

use super::DAY_MS;
use super::profile::Profile;
use super::run::Run;
use super::users::{Plan, Row, begin_with_pin};
use super::write::Batch;
use crate::outbox::{self, NewMail};
use crate::rpc::{StoreError, bounded};
use crate::seal::Seal;
use crate::sql::{Session, args};
use crate::users::name_key;
use domain::Method;
use proto::user_store::{FinishRunReply, FinishRunRequest, Mail};
use std::collections::BTreeSet;

/// Mails of one batch about doubled names; the history has them all.
const DOUBLED_TOLD_MAX: usize = 20;

/// What administrators hear of a run (FS-07, FV-27): that users wait, once a list; that a read was not complete, or that the source
/// is another one and nothing is written, once a day as long as it goes on.
pub async fn alarm(
    session: &mut Session,
    run: &Run,
    reply: &FinishRunReply,
    request: &FinishRunRequest,
    now_ms: i64,
) -> Result<Option<NewMail>, StoreError> {
    // A preview that nobody asked for is one of another source (S-44).
    let another = run.is_preview();
    let (scheduled, why) = began(session, run).await?;
    if another && !scheduled {
        return Ok(None);
    }
    if !reply.approval_id.is_empty() {
        let detail = format!("{}: {} users, approval {}", run.directory, reply.parked, reply.approval_id);
        // Where they are decided about; without a portal it is the command line.
        let link = match crate::portal_address::public_url(session).await?.trim_end_matches('/') {
            "" => format!("twinlock sync approvals {}", reply.approval_id),
            portal => format!("{portal}/console/approvals/{}", reply.approval_id),
        };
        let mail = NewMail::to_administrators("sync_approval").with("detail", detail).with("link", link);
        let mail = mail.with("reason", &reply.parked_why);
        return Ok(Some(mail.once(format!("sync_approval:{}", reply.approval_id))));
    }
    if request.complete && !another {
        return Ok(None);
    }
    let sql = "SELECT run_id FROM sync_runs WHERE directory = $1 AND state IN ('done', 'parked') AND mode <> 'preview' \
               ORDER BY started_ms DESC, run_id DESC LIMIT 1";
    let whole: String = match session.row(sql, args![&run.directory]).await? {
        Some(row) => row.get("run_id")?,
        None => String::new(),
    };
    let (directory, day) = (&run.directory, now_ms.div_euclid(DAY_MS));
    let mail = NewMail::to_administrators("sync_failed");
    if another && request.complete {
        let way_out = format!("twinlock sync plan {directory}, then twinlock sync now {directory} --accept-source");
        let mail = mail.with("reason", why).with("detail", format!("directory {directory}: {way_out}"));
        return Ok(Some(mail.once(format!("sync_source:{whole}:{day}:{directory}"))));
    }
    let mail = mail.with("reason", bounded(&request.error, 512)).with("detail", format!("directory {directory}"));
    Ok(Some(mail.once(format!("sync_failed:{whole}:{day}:{directory}"))))
}

/// Whether the schedule began a run, and why it is one of its mode.
async fn began(session: &mut Session, run: &Run) -> Result<(bool, String), StoreError> {
    let row = session.row("SELECT cause, why FROM sync_runs WHERE run_id = $1", args![&run.run_id]).await?;
    let Some(row) = row else { return Ok((false, String::new())) };
    Ok((row.get::<String>("cause")? == "schedule", row.get("why")?))
}

/// S-58: another phone or mail is another authenticator, and who had the one before hears of it there. Before the rows are written.
pub async fn of_other_addresses(
    session: &mut Session,
    seal: &Seal,
    changed: &[Box<Row>],
    now_ms: i64,
) -> Result<(), StoreError> {
    for row in changed {
        let Some(known) = row.known.as_ref().filter(|known| known.state != "removed") else { continue };
        if row.profile.has_other_number_than(&known.profile, &row.country)
            && let Some(mail) = NewMail::to_user(session, "phone_changed", &known.user_id).await?
        {
            let number = domain::phone::masked(other(&row.profile, &known.profile));
            let mail = mail.with("admin", "sync").with("phone_masked", number);
            outbox::put_in(session, seal, mail, now_ms).await?;
        }
        if name_key(&known.profile.mail) != name_key(&row.profile.mail)
            && let Some(mail) = NewMail::to_user(session, "updated", &known.user_id).await?
        {
            outbox::put_in(session, seal, mail.with("admin", "sync"), now_ms).await?;
        }
    }
    Ok(())
}

/// The number that is another one.
fn other<'a>(now: &'a Profile, before: &Profile) -> &'a str {
    match now.used() == before.used() {
        true => &now.backup.number,
        false => &now.used().number,
    }
}

/// FS-33: who was added is welcomed, where the item says so.
pub async fn of_welcome(
    session: &mut Session,
    seal: &Seal,
    batch: &Batch<'_>,
    added: &[Box<Row>],
    user_ids: &[String],
) -> Result<(), StoreError> {
    for (row, user_id) in added.iter().zip(user_ids) {
        let item = batch.items.iter().find(|item| item.name.as_str() == row.sync_item);
        let Some(item) = item.filter(|item| item.mail.on_add && !row.profile.mail.is_empty()) else { continue };
        let (state, ..) = super::users::first_state(Some(item), row.user.disabled_in_directory);
        if state != "enabled" {
            continue;
        }
        let method = item.method.default_method.unwrap_or(batch.settings.verification.default_method);
        let kind = welcome(method, !row.profile.phone.number.is_empty(), begin_with_pin(batch.settings, Some(item)));
        let variables = [
            ("username", &row.user.username),
            ("first_name", &row.profile.first_name),
            ("last_name", &row.profile.last_name),
        ];
        let mail = Mail {
            kind,
            user_id: user_id.clone(),
            to: vec![row.profile.mail.clone()],
            language: row.profile.languages[1].clone(),
            variables: variables.into_iter().map(|(name, value)| (name.to_owned(), value.clone())).collect(),
            ..Mail::default()
        };
        let mail = NewMail { mail, once_key: format!("welcome:{user_id}") };
        outbox::put_in(session, seal, mail, batch.now_ms).await?;
    }
    Ok(())
}

/// FS-33: who was changed hears of it, where the item says so; once, where they heard of another number already. After the rows are
/// written, so that it goes where they are reached now.
pub async fn of_changes(
    session: &mut Session,
    seal: &Seal,
    batch: &Batch<'_>,
    changed: &[Box<Row>],
) -> Result<(), StoreError> {
    for row in changed {
        let item = batch.items.iter().find(|item| item.name.as_str() == row.sync_item);
        let Some(known) = row.known.as_ref().filter(|known| known.state == "enabled") else { continue };
        if !item.is_some_and(|item| item.mail.on_change) {
            continue;
        }
        let (was, is) = (&known.profile, &row.profile);
        let same_address = name_key(&was.mail) == name_key(&is.mail);
        let other_number = is.has_other_number_than(was, &row.country);
        let of_theirs = known.username != row.user.username
            || (&was.first_name, &was.last_name) != (&is.first_name, &is.last_name)
            || was.languages != is.languages;
        let told = other_number && same_address && !of_theirs;
        if told || !(of_theirs || other_number || !same_address) {
            continue;
        }
        if let Some(mail) = NewMail::to_user(session, "updated", &known.user_id).await? {
            outbox::put_in(session, seal, mail.with("admin", "sync"), batch.now_ms).await?;
        }
    }
    Ok(())
}

/// S-53: of a name that is refused administrators hear once a day.
pub async fn of_doubled_names(
    session: &mut Session,
    seal: &Seal,
    batch: &Batch<'_>,
    plan: &Plan,
) -> Result<(), StoreError> {
    let directory = &batch.run.directory;
    let day = batch.now_ms.div_euclid(DAY_MS);
    let names: BTreeSet<&String> = plan.waiting.values().chain(&plan.shared).collect();
    for name in names.into_iter().take(DOUBLED_TOLD_MAX) {
        let whose = match plan.shared.contains(name) {
            true => "it and another domain of the forest have",
            false => "several entries have",
        };
        let detail = format!(
            "directory {directory}: {whose} this username; nobody else gets it, and who has it here already keeps it"
        );
        let mail = NewMail::to_administrators("sync_name_doubled").with("username", name).with("detail", detail);
        outbox::put_in(session, seal, mail.once(format!("sync_name_doubled:{directory}:{day}:{name}")), batch.now_ms)
            .await?;
    }
    Ok(())
}

/// By what new users log in: a number is there, everything else has to be enrolled first.
fn welcome(method: Method, has_phone: bool, with_pin: bool) -> String {
    let kind = match method {
        Method::Call if has_phone => "welcome_call",
        Method::Sms | Method::SmsReply if has_phone => "welcome_sms",
        _ => "welcome_enrol",
    };
    format!("{kind}{}", if with_pin { "_pin" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_welcome_speaks_of_what_the_user_has() {
        // FS-33, FN-05
        for (method, has_phone, with_pin, kind) in [
            (Method::Call, true, false, "welcome_call"),
            (Method::Sms, true, true, "welcome_sms_pin"),
            (Method::Sms, false, false, "welcome_enrol"),
            (Method::Push, true, true, "welcome_enrol_pin"),
        ] {
            assert_eq!(welcome(method, has_phone, with_pin), kind);
        }
    }
}
