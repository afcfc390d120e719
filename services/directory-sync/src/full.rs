//! A full run: everything that the items hold, where it lies or, of users that are named one by one, by their ids (FS-16). Then, by
//! their ids, whom the store knows and the reading did not meet (S-43).

use crate::apply::{BegunRun, Writer};
use crate::members::Otherwise;
use crate::objects::{Met, Nowhere, Objects, Target};
use crate::plan::Problems;
use crate::read::ReadError;
use crate::source::Source;
use domain::ObjectId;
use proto::user_store::{LeftObject, left_object::How};
use tracing::Instrument;

/// Reads everything. `Ok(Some(why))` = all was read, and still it is no evidence that somebody is gone.
pub(crate) async fn read(
    objects: &Objects,
    source: &Source,
    run: &BegunRun,
    writer: &mut Writer,
    problems: &mut Problems,
    met: &mut Met,
) -> Result<Option<String>, ReadError> {
    let base = objects.directory.settings().base.clone();
    objects.containers(&base, writer, problems).instrument(span(objects, "containers")).await?;
    // Groups first: the store knows who is a member before it hears of the users.
    objects.groups(&base, writer, problems, met).instrument(span(objects, "groups")).await?;
    async {
        users(objects, source, &base, writer, problems, met).await?;
        // Nobody reads a whole directory to find ten people in it.
        let named: Vec<ObjectId> = source.named().into_iter().filter(|id| !met.named.contains(id)).cloned().collect();
        met.users += objects.by_ids(&named, Nowhere::Missed, source, writer, problems).await?;
        Ok::<_, ReadError>(())
    }
    .instrument(span(objects, "users"))
    .await?;
    if met.unidentified > 0 {
        // An entry that cannot be identified may be anybody: it is no evidence that somebody is gone (S-41, B-70).
        writer.flush().await?;
        let Met { unidentified, users, groups, .. } = met;
        return Ok(Some(format!(
            "{unidentified} of {} entries have no usable id attribute, so nobody can be said to be gone",
            *users + *groups
        )));
    }
    match source.is_whole() {
        true => unseen(objects, source, run, writer, problems).instrument(span(objects, "unseen")).await?,
        false => writer.flush().await?,
    }
    Ok(None)
}

/// Everybody whom an item may hold: found through their groups, or by reading everybody.
async fn users(
    objects: &Objects,
    source: &Source,
    base: &str,
    writer: &mut Writer,
    problems: &mut Problems,
    met: &mut Met,
) -> Result<(), ReadError> {
    if let Some((groups, bases)) = source.groups_and_bases() {
        match objects.places(&groups).await? {
            Ok(places) => {
                for base in &bases {
                    objects.users(base, source, false, writer, problems, met).await?;
                }
                return objects.users_at(&places, &bases, &mut Target { source, writer, problems }, met).await;
            }
            Err(Otherwise::NotOffered) => {}
            Err(why) => {
                tracing::info!(directory = %objects.directory.name(), %why, "members of groups are found by reading everybody")
            }
        }
    }
    for base in source.bases(base) {
        objects.users(base, source, false, writer, problems, met).await?;
    }
    Ok(())
}

/// Looks for everybody whom the run has not met. `gone` = the directory has named all who are there, and they were not among them
/// (S-32); otherwise one run that does not find them proves nothing yet (S-43).
pub(crate) async fn unseen(
    objects: &Objects,
    source: &Source,
    run: &BegunRun,
    writer: &mut Writer,
    problems: &mut Problems,
) -> Result<(), ReadError> {
    writer.flush().await?;
    let mut after = String::new();
    loop {
        let page = run.unseen(&after).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after.clone_from(last);
        let ids: Vec<ObjectId> = page.iter().filter_map(|id| id.parse().ok()).collect();
        objects.by_ids(&ids, Nowhere::Missed, source, writer, problems).await?;
        writer.flush().await?;
    }
}

/// Everybody of a directory that no item is of any more: they are not looked for (FS-10).
pub(crate) async fn let_go(run: &BegunRun, writer: &mut Writer) -> Result<(), ReadError> {
    let mut after = String::new();
    loop {
        let page = run.unseen(&after).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after.clone_from(last);
        for object_id in page {
            writer.left(LeftObject { object_id, how: How::Outside.into() }).await?;
        }
        writer.flush().await?;
    }
}

/// What is being read, and, once it answers, from which server.
fn span(objects: &Objects, what: &'static str) -> tracing::Span {
    tracing::info_span!(
        "directory.read",
        otel.kind = "client",
        server.address = tracing::field::Empty,
        twinlock.directory = objects.directory.name().as_str(),
        twinlock.objects = what,
    )
}
