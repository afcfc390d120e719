//! A full run: everything that the items hold, where it lies or, of users that are named one by one, by their ids (FS-16). Then, by
//! their ids, whom the store knows and the reading did not meet (S-43).

use crate::apply::{BegunRun, Writer};
use crate::domains::{Domains, OWN};
use crate::members::Otherwise;
use crate::objects::{Met, Nowhere, Objects, Target};
use crate::read::ReadError;
use domain::ObjectId;
use proto::user_store::{LeftObject, left_object::How};
use tracing::Instrument;

/// Reads everything. `Ok(Some(why))` = all was read, and still it is no evidence that somebody is gone.
pub(crate) async fn read(
    domains: &Domains,
    is_preview: bool,
    run: &BegunRun,
    target: &mut Target<'_>,
    met: &mut Met,
) -> Result<Option<String>, ReadError> {
    // The directory's own domain first, to its end: who is slow elsewhere does not delay it (FD-02). What groups of another one say of
    // its people is settled after that; nothing is settled of a preview.
    let passes: &[&[Kind]] =
        if is_preview { &[&[Kind::Groups], &[Kind::Users]] } else { &[&[Kind::Groups, Kind::Users]] };
    for kinds in passes {
        for at in domains.all() {
            for kind in *kinds {
                let Some(objects) = domains.objects(at) else { break };
                let read = kind.read(domains, at, objects, target, met).await;
                domains.tried(at, read)?;
            }
        }
    }
    // Nobody reads a whole directory to find ten people in it.
    let named = target.source.named();
    let named: Vec<ObjectId> = named.into_iter().filter(|id| !met.named.contains(id)).cloned().collect();
    met.users += domains.by_ids(OWN, &named, Nowhere::Missed, target).instrument(span(domains.own(), "users")).await?;
    if met.unidentified > 0 {
        // An entry that cannot be identified may be anybody: it is no evidence that somebody is gone (S-41, B-70).
        target.writer.flush().await?;
        let Met { unidentified, users, groups, .. } = met;
        return Ok(Some(format!(
            "{unidentified} of {} entries have no usable id attribute, so nobody can be said to be gone",
            *users + *groups
        )));
    }
    match target.source.is_whole() && domains.is_whole() {
        true => unseen(domains, OWN, run, target).instrument(span(domains.own(), "unseen")).await?,
        false => target.writer.flush().await?,
    }
    Ok(None)
}

/// What is read of a domain, in this order: the store knows who is a member before it hears of the users.
#[derive(Clone, Copy)]
enum Kind {
    /// And containers.
    Groups,
    Users,
}

impl Kind {
    async fn read(
        self,
        domains: &Domains,
        at: usize,
        objects: &Objects,
        target: &mut Target<'_>,
        met: &mut Met,
    ) -> Result<(), ReadError> {
        let base = objects.directory.settings().base.clone();
        match self {
            Self::Groups => {
                let containers = objects.containers(&base, target.writer, target.problems);
                containers.instrument(span(objects, "containers")).await?;
                objects.groups(&base, target.writer, target.problems, met).instrument(span(objects, "groups")).await
            }
            Self::Users => users(domains, at, objects, &base, target, met).instrument(span(objects, "users")).await,
        }
    }
}

/// Everybody of a domain whom an item may hold: found through their groups, or by reading everybody.
async fn users(
    domains: &Domains,
    at: usize,
    objects: &Objects,
    base: &str,
    target: &mut Target<'_>,
    met: &mut Met,
) -> Result<(), ReadError> {
    let source = target.source;
    if let Some((groups, bases)) = source.groups_and_bases(at) {
        let places = match domains.are_several() {
            true => Err(Otherwise::SpansDomains),
            false => objects.places(&groups).await?,
        };
        match places {
            Ok(places) => {
                for base in &bases {
                    objects.users(base, false, target, met).await?;
                }
                return objects.users_at(&places, &bases, target, met).await;
            }
            Err(Otherwise::NotOffered) => {}
            Err(why) => {
                tracing::info!(directory = %objects.directory.name(), %why, "members of groups are found by reading everybody")
            }
        }
    }
    for base in source.bases(at, base) {
        objects.users(base, false, target, met).await?;
    }
    Ok(())
}

/// Looks for everybody whom the run has not met. One run that does not find them proves nothing yet, also where the directory has named
/// all who are there, and they were not among them (S-32, S-43).
pub(crate) async fn unseen(
    domains: &Domains,
    first: usize,
    run: &BegunRun,
    target: &mut Target<'_>,
) -> Result<(), ReadError> {
    target.writer.flush().await?;
    let mut after = String::new();
    loop {
        let page = run.unseen(&after).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after.clone_from(last);
        let ids: Vec<ObjectId> = page.iter().filter_map(|id| id.parse().ok()).collect();
        domains.by_ids(first, &ids, Nowhere::Missed, target).await?;
        target.writer.flush().await?;
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
