//! What is known of a directory as a source: where its feed continues, by what it was last read whole, and why no run begins by
//! itself.

use super::run::{Mode, Run};
use super::{MINUTE_MS, items, look, pins};
use crate::Store;
use crate::rpc::{StoreError, bounded};
use crate::sql::{Session, args};
use domain::settings::Settings;
use proto::user_store::{GetSourceReply, GetSourceRequest, SyncSource};
use std::collections::HashMap;

/// Feeds a directory can offer, and a line on each that it does not.
const OFFERS_MAX: usize = 32;

pub async fn get(store: &Store, request: GetSourceRequest) -> Result<GetSourceReply, StoreError> {
    let mut session = store.database().read().await?;
    look(&mut session, request.epoch).await?;
    let sql = "SELECT position, items_digest, mapping_digest, identity, full_ms, complete_ms FROM sync_sources WHERE directory = $1";
    let row = session.row(sql, args![&request.directory]).await?;
    let mut reply = GetSourceReply {
        users: users(&mut session, &request.directory).await?,
        missed: missed(&mut session, &request.directory).await?,
        ..GetSourceReply::default()
    };
    let settings = store.rules().current(&mut session).await?;
    if let Some(row) = row {
        reply.position = row.get("position")?;
        reply.items_digest = row.get("items_digest")?;
        reply.mapping_digest = row.get("mapping_digest")?;
        reply.identity = row.get("identity")?;
        reply.full_unix_ms = row.get("full_ms")?;
        reply.complete_unix_ms = row.get("complete_ms")?;
    }
    reply.pins = pins::list(&mut session, &request.directory, &reply.identity, &settings).await?;
    Ok(reply)
}

/// The source that was accepted; empty = none was read yet.
pub async fn identity(session: &mut Session, directory: &str) -> Result<String, StoreError> {
    let row = session.row("SELECT identity FROM sync_sources WHERE directory = $1", args![directory]).await?;
    Ok(row.map_or(Ok(String::new()), |row| row.get("identity"))?)
}

/// Is the source, as the last run met it that could ask, another than the one that was accepted (S-44)?
pub async fn is_another(session: &mut Session, directory: &str, accepted: &str) -> Result<bool, StoreError> {
    let sql = "SELECT identity FROM sync_runs WHERE directory = $1 AND identity <> '' \
               ORDER BY started_ms DESC, run_id DESC LIMIT 1";
    let met = session.row(sql, args![directory]).await?.map(|row| row.get::<String>("identity")).transpose()?;
    Ok(!accepted.is_empty() && met.is_some_and(|met| met != accepted))
}

/// By a run, and by no full one since.
pub async fn missed(session: &mut Session, directory: &str) -> Result<u64, StoreError> {
    let sql = "SELECT (SELECT COUNT(*) FROM users WHERE directory = $1 AND left_how = 'missed' AND state || '' <> 'removed') \
               + (SELECT COUNT(*) FROM user_groups WHERE directory = $1 AND left_run <> '') AS missed";
    let row = session.row(sql, args![directory]).await?;
    Ok(row.ok_or(StoreError::Broken("a count has no row"))?.unsigned("missed")?)
}

/// By this very run.
pub async fn missed_by(session: &mut Session, run: &Run) -> Result<bool, StoreError> {
    any_missed(session, run, "left_run = $2").await
}

/// By a run before this one.
pub async fn missed_before(session: &mut Session, run: &Run) -> Result<bool, StoreError> {
    any_missed(session, run, "left_run <> '' AND left_run <> $2").await
}

async fn any_missed(session: &mut Session, run: &Run, condition: &str) -> Result<bool, StoreError> {
    let sql = format!(
        "SELECT user_id AS id FROM users WHERE directory = $1 AND left_how = 'missed' AND {condition} \
         AND state || '' <> 'removed' \
         UNION ALL SELECT object_id AS id FROM user_groups WHERE directory = $1 AND {condition} LIMIT 1"
    );
    Ok(!session.rows_of(sql, args![&run.directory, &run.run_id]).await?.is_empty())
}

/// Of the directory and not removed. Two states, so that an index answers.
async fn users(session: &mut Session, directory: &str) -> Result<u64, StoreError> {
    let sql = "SELECT COUNT(*) AS users FROM users WHERE directory = $1 AND state IN ('enabled', 'disabled')";
    let row = session.row(sql, args![directory]).await?;
    Ok(row.ok_or(StoreError::Broken("a count has no row"))?.unsigned("users")?)
}

/// Keeps what the directory was found to offer at the beginning of a run.
pub async fn offered(session: &mut Session, directory: &str, feed: &str, offers: &[String]) -> Result<(), StoreError> {
    // Who only follows, or could not ask, says nothing new of it.
    if offers.is_empty() && feed.is_empty() {
        let sql = "INSERT INTO sync_sources (directory, position, feed, offers, items_digest, identity, full_ms, complete_ms) \
                   VALUES ($1, $2, '', '', '', '', 0, 0) ON CONFLICT (directory) DO NOTHING";
        session.execute(sql, args![directory, Vec::new()]).await?;
        return Ok(());
    }
    let offers: Vec<String> = offers.iter().take(OFFERS_MAX).map(|line| bounded(line, 512)).collect();
    let sql = "INSERT INTO sync_sources (directory, position, feed, offers, items_digest, identity, full_ms, complete_ms) \
               VALUES ($1, $2, $3, $4, '', '', 0, 0) \
               ON CONFLICT (directory) DO UPDATE SET feed = excluded.feed, offers = excluded.offers";
    session.execute(sql, args![directory, Vec::new(), bounded(feed, 32), offers.join("\n")]).await?;
    Ok(())
}

/// Keeps where the searches of a directory start, as a run found it.
pub async fn starts_at(session: &mut Session, directory: &str, base: &str) -> Result<(), StoreError> {
    if !base.is_empty() {
        let sql = "UPDATE sync_sources SET base = $1 WHERE directory = $2 AND base <> $1";
        session.execute(sql, args![bounded(base, 1024), directory]).await?;
    }
    Ok(())
}

/// By directory, where its searches started at the last run that could ask.
pub async fn bases(session: &mut Session) -> Result<HashMap<String, String>, StoreError> {
    let rows = session.rows("SELECT directory, base FROM sync_sources WHERE base <> ''", args![]).await?;
    Ok(rows.iter().map(|row| Ok((row.get("directory")?, row.get("base")?))).collect::<Result<_, sqlx::Error>>()?)
}

/// The feed continues here: in the transaction of what it covers (S-02). A full read is covered at its end only, and a preview
/// covers nothing.
pub async fn continues(session: &mut Session, run: &Run, position: Vec<u8>) -> Result<(), StoreError> {
    if position.is_empty() || run.mode != Mode::Incremental {
        return Ok(());
    }
    let sql = "UPDATE sync_sources SET position = $1 WHERE directory = $2";
    session.execute(sql, args![position, &run.directory]).await?;
    Ok(())
}

/// A run ended complete; a full one says from where on and by what the next ones go.
pub async fn complete(session: &mut Session, run: &Run, position: &[u8]) -> Result<(), StoreError> {
    let sql = "UPDATE sync_sources SET complete_ms = $1 WHERE directory = $2";
    if run.mode != Mode::Preview {
        session.execute(sql, args![run.started_ms, &run.directory]).await?;
    }
    if run.mode == Mode::Full {
        let sql = "UPDATE sync_sources SET position = $1, items_digest = $2, mapping_digest = $3, identity = $4, full_ms = $5 \
                   WHERE directory = $6";
        let Run { items_digest, mapping_digest, identity, directory, started_ms, .. } = run;
        let arguments = args![position, items_digest, mapping_digest, identity, *started_ms, directory];
        session.execute(sql, arguments).await?;
    }
    Ok(())
}

/// The directories that have sync items, in the order of the settings.
pub async fn list(session: &mut Session, settings: &Settings) -> Result<Vec<SyncSource>, StoreError> {
    let mut sources = Vec::new();
    for directory in &settings.directories {
        let name = directory.name.as_str();
        if !settings.sync_items.iter().any(|item| item.directory == directory.name) {
            continue;
        }
        let mut source =
            SyncSource { directory: name.into(), users: users(session, name).await?, ..SyncSource::default() };
        let accepted = identity(session, name).await?;
        source.pins = pins::list(session, name, &accepted, settings).await?;
        let sql =
            "SELECT base, feed, offers, items_digest, full_ms, complete_ms FROM sync_sources WHERE directory = $1";
        let mut digest = String::new();
        if let Some(row) = session.row(sql, args![name]).await? {
            source.base = row.get("base")?;
            source.feed = row.get("feed")?;
            source.offers = row.get::<String>("offers")?.lines().map(str::to_owned).collect();
            source.full_unix_ms = row.get("full_ms")?;
            source.complete_unix_ms = row.get("complete_ms")?;
            digest = row.get("items_digest")?;
        }
        let another = is_another(session, name, &accepted).await?;
        source.waits_for = waits_for(settings, name, source.full_unix_ms, &digest, another);
        if source.waits_for.is_empty() {
            source.next_unix_ms = next(last_start(session, name).await?, settings);
        }
        sources.push(source);
    }
    Ok(sources)
}

/// When the last run began that the next one is counted from: a preview that was asked for is none, nor is what the directory told of.
async fn last_start(session: &mut Session, directory: &str) -> Result<i64, StoreError> {
    let sql = "SELECT started_ms FROM sync_runs WHERE directory = $1 \
               AND (cause = 'schedule' OR cause = 'request' AND mode <> 'preview') ORDER BY started_ms DESC LIMIT 1";
    Ok(session.row(sql, args![directory]).await?.map(|row| row.get("started_ms")).transpose()?.unwrap_or_default())
}

/// From start to start (FS-02).
fn next(last_start_ms: i64, settings: &Settings) -> i64 {
    let minutes = i64::from(settings.sync.interval_minutes.max(1));
    last_start_ms.saturating_add(minutes.saturating_mul(MINUTE_MS))
}

/// Why no run begins by itself, in a sentence with the way out; empty = they do.
fn waits_for(settings: &Settings, directory: &str, full_ms: i64, digest: &str, another: bool) -> String {
    let look =
        format!("look at the list of \"twinlock sync plan {directory}\", then type \"twinlock sync now {directory}");
    let now = format!("{look}\"");
    match () {
        () if items(settings, directory, false).is_empty() => "no sync item of it is on".into(),
        () if !settings.sync.enabled => "synchronisation is off: set sync.enabled".into(),
        // FS-01
        () if full_ms == 0 => format!("nothing was synchronised yet: {now}"),
        // S-44
        () if another => format!(
            "the account, base, filter, id attribute or directory is another than the one that was accepted: \
             {look} --accept-source\""
        ),
        // FS-09
        () if digest != settings.items_digest(directory) => format!("its sync items changed: {now}"),
        () => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_run_is_counted_from_the_start_of_the_last_one() {
        // FS-02
        for (interval, minutes) in [(5, 5), (0, 1), (u32::MAX, i64::from(u32::MAX))] {
            let settings: Settings =
                toml::from_str(&format!("[sync]\nenabled = true\ninterval_minutes = {interval}\n")).expect("valid");
            assert_eq!(next(1_000, &settings), 1_000 + minutes * MINUTE_MS);
            assert_eq!(next(i64::MAX - 1, &settings), i64::MAX);
        }
    }

    #[test]
    fn runs_begin_by_themselves_after_one_by_hand_and_until_the_items_change() {
        // FS-01, FS-09, S-44
        let settings = |enabled: bool, state: &str| -> Settings {
            let text = format!(
                "[sync]\nenabled = {enabled}\n[[sync_item]]\nname = \"a\"\ndirectory = \"corp\"\nstate = \"{state}\"\n\
                 source = {{ kind = \"domain\" }}\n"
            );
            toml::from_str(&text).expect("valid")
        };
        let good = settings(true, "on").items_digest("corp");
        for (enabled, state, full_ms, digest, another, waits) in [
            (true, "on", 1, good.as_str(), false, None),
            (true, "on", 0, "", false, Some("twinlock sync now corp\"")),
            (true, "on", 1, "other", false, Some("items changed")),
            (true, "on", 1, good.as_str(), true, Some("twinlock sync now corp --accept-source\"")),
            (true, "on", 1, "other", true, Some("--accept-source\"")),
            (false, "on", 1, good.as_str(), true, Some("sync.enabled")),
            (true, "preview", 1, good.as_str(), false, Some("no sync item")),
            (true, "off", 1, good.as_str(), false, Some("no sync item")),
        ] {
            let said = waits_for(&settings(enabled, state), "corp", full_ms, digest, another);
            match waits {
                None => assert_eq!(said, ""),
                Some(part) => assert!(said.contains(part), "{said}"),
            }
        }
    }
}
