//! Users whom the directory disabled and enables again soon after (S-19): a server of it lags behind the others, or somebody was put
//! back for a while. Nothing is held up by it; administrators hear of it.

use super::run::Run;
use super::users::Plan;
use super::write::Batch;
use super::{DAY_MS, MINUTE_MS};
use crate::audit::NewEvent;
use crate::outbox::{self, NewMail};
use crate::rpc::StoreError;
use crate::seal::Seal;
use crate::sql::Session;
use domain::settings::Settings;

/// B-75: a directory that was restored from a backup does not know whom it has disabled or deleted since. `run_id` = where what the
/// run did is listed.
pub fn many_enabled(run: &Run, run_id: &str, settings: &Settings, users: u64) -> Option<NewMail> {
    if run.is_preview() || users <= u64::from(settings.sync.approval_over_users) {
        return None;
    }
    let who = format!("{users} users of directory {}", run.directory);
    let text = format!(
        "One run found them enabled again: twinlock sync run {run_id} names them. A directory that was restored from a backup has \
         forgotten whom it has disabled or deleted since."
    );
    let mail = NewMail::to_administrators("sync_enabled_again").with("username", who).with("detail", text);
    Some(mail.once(format!("sync_many_enabled:{}", run.run_id)))
}

/// Tells of those whom a plan enables too soon. Returns what the audit says of it.
pub async fn enabled_again(
    session: &mut Session,
    seal: &Seal,
    batch: &Batch<'_>,
    plan: &Plan,
) -> Result<Vec<NewEvent>, StoreError> {
    let mut events = Vec::new();
    let within_ms = i64::from(batch.settings.sync.phone_back_minutes) * MINUTE_MS;
    let by_directory = plan.states.iter().filter(|(known, next)| {
        (known.state.as_str(), known.state_by.as_str(), next.state) == ("disabled", "directory", "enabled")
    });
    for (known, _) in by_directory.filter(|_| within_ms > 0) {
        let ago_ms = batch.now_ms - known.state_since_ms;
        if ago_ms > within_ms {
            continue;
        }
        let text = format!("is enabled in the directory again, which disabled them {} minutes ago", ago_ms / MINUTE_MS);
        let mail = NewMail::to_administrators("sync_enabled_again").with("username", &known.username);
        let day = batch.now_ms.div_euclid(DAY_MS);
        let mail = mail.with("detail", &text).once(format!("sync_enabled_again:{}:{day}", known.user_id));
        outbox::put_in(session, seal, mail, batch.now_ms).await?;
        let event = NewEvent::administrative(batch.now_ms, "user.enabled_again", "sync", text);
        events.push(event.about(&known.user_id, &known.username));
    }
    Ok(events)
}
