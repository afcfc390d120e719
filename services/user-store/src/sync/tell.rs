//! Mails of a run: to administrators about the run, to users about what it changes of theirs.

use super::users::{self, Row};
use super::{DAY_MS, RunRow};
use crate::outbox::{self, NewMail};
use crate::rpc::{StoreError, bounded};
use crate::seal::Seal;
use crate::sql::{Session, args};
use crate::users::name_key;
use proto::user_store::{FinishRunReply, FinishRunRequest};

/// What administrators hear of a run (FS-07, FV-27): that leavers wait, once a list; that a read was not complete, once a day
/// as long as it goes on.
pub async fn alarm(
    session: &mut Session,
    run: &RunRow,
    reply: &FinishRunReply,
    request: &FinishRunRequest,
    now_ms: i64,
) -> Result<Option<NewMail>, StoreError> {
    if !reply.approval_id.is_empty() {
        let detail = format!("{}: {} users, approval {}", run.sync_item, reply.parked, reply.approval_id);
        let mail = NewMail::to_administrators("sync_approval").with("detail", detail);
        return Ok(Some(mail.once(format!("sync_approval:{}", reply.approval_id))));
    }
    if request.complete {
        return Ok(None);
    }
    let sql = "SELECT run_id FROM sync_runs WHERE sync_item = $1 AND state IN ('done', 'parked') \
               ORDER BY started_ms DESC, run_id DESC LIMIT 1";
    let whole: String = match session.row(sql, args![&run.sync_item]).await? {
        Some(row) => row.get("run_id")?,
        None => String::new(),
    };
    let mail = NewMail::to_administrators("sync_failed").with("reason", bounded(&request.error, 512));
    let mail = mail.with("detail", format!("{} (directory {})", run.sync_item, run.directory));
    let day = now_ms.div_euclid(DAY_MS);
    Ok(Some(mail.once(format!("sync_failed:{whole}:{day}:{}", run.sync_item))))
}

/// S-58: another phone or mail is another authenticator, and who had the one before hears of it there. Before the rows are written.
pub async fn of_other_addresses(
    session: &mut Session,
    seal: &Seal,
    changed: &[Row],
    now_ms: i64,
) -> Result<(), StoreError> {
    for row in changed {
        let Some(known) = row.known.as_ref().filter(|known| known.state != "removed") else { continue };
        if users::other_phone(known, row)
            && let Some(mail) = NewMail::to_user(session, "phone_changed", &known.user_id).await?
        {
            let mail = mail.with("admin", "sync").with("phone_masked", domain::phone::masked(&row.user.phone));
            outbox::put_in(session, seal, mail, now_ms).await?;
        }
        if name_key(&known.mail) != name_key(&row.user.mail)
            && let Some(mail) = NewMail::to_user(session, "updated", &known.user_id).await?
        {
            outbox::put_in(session, seal, mail.with("admin", "sync"), now_ms).await?;
        }
    }
    Ok(())
}
