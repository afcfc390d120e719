//! How a directory is read this time, and why. Pure.

use crate::positions::Positions;
use directory::{Offer, Position};
use domain::settings::{Directory, SyncItem};
use proto::user_store::GetSourceReply;

const HOUR_MS: i64 = 3_600_000;
/// Directories keep deleted objects for 60 days at least (MS-ADTS 6.1.1.2.4.1.1 tombstoneLifetime). After a longer silence what was
/// deleted may have been forgotten (S-20).
const SILENCE_MAX_MS: i64 = 60 * 24 * HOUR_MS;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Full,
    Incremental,
    /// Reads everything, writes nothing (FS-12).
    Preview,
}

impl Mode {
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
            Self::Preview => "preview",
        }
    }
}

/// What made the run begin.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Trigger {
    Schedule,
    Request(Asked),
    /// The directory told of a change.
    Follow,
}

/// What somebody asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Asked {
    pub(crate) what: What,
    pub(crate) accept_source: bool,
    pub(crate) actor: String,
    /// A preview whose list they looked at; empty = none.
    pub(crate) looked_at: String,
    /// Of a preview: the items of the directory as they would have them; empty = those of the settings (FS-12).
    pub(crate) draft: Vec<SyncItem>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum What {
    /// Reads everything.
    #[default]
    Full,
    /// As the schedule would, now.
    Changes,
    Preview,
}

impl Trigger {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Request(asked) if !asked.draft.is_empty() => "draft",
            Self::Request(_) => "request",
            Self::Follow => "follow",
        }
    }

    pub(crate) fn is_preview(&self) -> bool {
        matches!(self, Self::Request(Asked { what: What::Preview, .. }))
    }

    /// The preview whose list has to be the same still, where everything is to be written as it says (FS-09).
    pub(crate) fn looked_at(&self) -> Option<&str> {
        match self {
            Self::Request(Asked { what: What::Full, looked_at, .. }) if !looked_at.is_empty() => Some(looked_at),
            Self::Request(_) | Self::Schedule | Self::Follow => None,
        }
    }

    /// Items that are not applied.
    pub(crate) fn draft(&self) -> &[SyncItem] {
        match self {
            Self::Request(asked) => &asked.draft,
            Self::Schedule | Self::Follow => &[],
        }
    }

    pub(crate) fn actor(&self) -> &str {
        match self {
            Self::Request(asked) => &asked.actor,
            Self::Schedule | Self::Follow => "",
        }
    }
}

/// What the decision stands on.
pub(crate) struct Facts<'a> {
    pub(crate) state: &'a GetSourceReply,
    /// Of the source as it is now; empty = it could not be asked.
    pub(crate) identity: &'a str,
    pub(crate) items_digest: &'a str,
    pub(crate) mapping_digest: &'a str,
    pub(crate) always_full: bool,
    pub(crate) directory: Option<&'a Directory>,
    /// The feed that can be used.
    pub(crate) feed: Option<&'a Offer>,
    /// The other domains that are read with it; `None` = nobody knows which there are.
    pub(crate) others: Option<&'a [Other<'a>]>,
}

/// Another domain before a run (FD-02).
pub(crate) struct Other<'a> {
    pub(crate) name: &'a str,
    /// `None`: it cannot be asked now. That changes nothing of how the others are read.
    pub(crate) now: Option<OtherNow<'a>>,
}

pub(crate) struct OtherNow<'a> {
    /// Who it is (S-44).
    pub(crate) identity: &'a str,
    /// The feed that can be used.
    pub(crate) feed: Option<&'a Offer>,
}

impl<'a> Facts<'a> {
    /// A domain that is another one than at the last run (S-44): its name, and who it is now.
    pub(crate) fn another_domain(&self) -> Option<(&'a str, &'a str)> {
        let known = Positions::read(&self.state.position).ok()?.others;
        self.others.into_iter().flatten().find_map(|other| {
            let now = other.now.as_ref()?;
            let before = known.get(other.name)?;
            (before.identity != now.identity).then_some((other.name, now.identity))
        })
    }

    /// Who the run reads: told of a preview of another domain, so that it is not taken for what was accepted.
    pub(crate) fn identity_of(&self, mode: Mode) -> String {
        match self.another_domain().filter(|_| mode == Mode::Preview) {
            Some((name, identity)) => format!("{} {name} {identity}", self.identity),
            None => self.identity.to_owned(),
        }
    }
}

/// Why no run begins by itself; `None` = it may.
pub(crate) fn waits(state: &GetSourceReply, items_digest: &str) -> Option<&'static str> {
    if state.full_unix_ms == 0 {
        // FS-01
        return Some("nobody has asked for a run yet");
    }
    // FS-09
    (state.items_digest != items_digest).then_some("the sync items were changed since the last full run")
}

/// How everything is read for whoever asked: written, unless it is a preview.
pub(crate) fn asked(trigger: &Trigger) -> Mode {
    if trigger.is_preview() { Mode::Preview } else { Mode::Full }
}

/// The mode, and one sentence why.
pub(crate) fn of(facts: &Facts<'_>, trigger: &Trigger, now_unix_ms: i64) -> (Mode, String) {
    let state = facts.state;
    let asked = match trigger {
        Trigger::Request(asked) => Some(asked),
        Trigger::Schedule | Trigger::Follow => None,
    };
    if trigger.is_preview() {
        return (Mode::Preview, "a preview was asked for".into());
    }
    let another = !state.identity.is_empty() && !facts.identity.is_empty() && state.identity != facts.identity;
    if another && !asked.is_some_and(|asked| asked.accept_source) {
        // S-44
        let why = "the account, base, filter, id attribute or directory is another than at the last run, so nothing is written \
                   before it is accepted";
        return (Mode::Preview, why.into());
    }
    if let Some((name, _)) = facts.another_domain().filter(|_| !asked.is_some_and(|asked| asked.accept_source)) {
        let why = format!(
            "the domain {name} is another one than at the last run, so nothing is written before it is accepted"
        );
        return (Mode::Preview, why);
    }
    if asked.is_some_and(|asked| asked.what == What::Full) {
        return (Mode::Full, "it was asked for".into());
    }
    if let Some(why) = waits(state, facts.items_digest) {
        return (Mode::Full, why.into());
    }
    if facts.always_full {
        return (Mode::Full, "sync.always_full is set".into());
    }
    let Some(offer) = facts.feed else {
        if facts.identity.is_empty() {
            return (Mode::Full, "the directory could not be asked what it offers".into());
        }
        let wanted = facts.directory.and_then(|directory| directory.feed);
        let why = match wanted {
            Some(feed) => format!("the feed of the settings, {}, cannot be used", feed.code()),
            None => "the directory offers no change feed that can be used".into(),
        };
        return (Mode::Full, why);
    };
    let positions = match Positions::read(&state.position) {
        Ok(positions) => positions,
        Err(unreadable) => return (Mode::Full, unreadable.to_string()),
    };
    if let Err(why) = follows(offer, positions.of(None)) {
        return (Mode::Full, why);
    }
    if state.mapping_digest != facts.mapping_digest {
        // S-30: a feed says nothing of entries that have not changed.
        let why = "other attributes are read, or names or numbers are understood in another way, than when everything was read last";
        return (Mode::Full, why.into());
    }
    let others = match others_follow(facts.others, &positions) {
        Ok(others) => others,
        Err(why) => return (Mode::Full, why),
    };
    if now_unix_ms - state.complete_unix_ms > SILENCE_MAX_MS {
        return (Mode::Full, "the last complete run was more than 60 days ago".into());
    }
    if state.missed > 0 {
        // S-43: nobody is gone on the word of one.
        let missed = state.missed;
        return (
            Mode::Full,
            format!("{missed} known users or groups were not found, and are looked for once more before they are gone"),
        );
    }
    let every_hours = facts.directory.map_or(24, |directory| directory.full_every_hours);
    // Also where the feed misses nothing: an account that expires changes nothing in the directory (FD-42).
    if now_unix_ms - state.full_unix_ms >= i64::from(every_hours) * HOUR_MS {
        return (Mode::Full, format!("everything is read anew every {every_hours} hours"));
    }
    (Mode::Incremental, format!("changes since the last run by {}{others}", offer.kind.code()))
}

/// May a domain be followed from here? Otherwise why not.
fn follows(offer: &Offer, position: Option<&Position>) -> Result<(), String> {
    let feed = offer.kind.code();
    match position {
        None => Err(format!("there is no position yet to follow {feed} from")),
        Some(position) if position.kind() != offer.kind => Err(format!("the feed was another one before {feed}")),
        Some(_) => Ok(()),
    }
}

/// Each domain by its own feed (FS-04): by which, in words. Otherwise which one cannot be followed, and why.
fn others_follow(others: Option<&[Other<'_>]>, positions: &Positions) -> Result<String, String> {
    let Some(others) = others else { return Ok(String::new()) };
    let gone = |name: &&String| !others.iter().any(|other| other.name == name.as_str());
    if let Some(name) = positions.others.keys().find(gone) {
        return Err(format!("the domain {name} is not among those that are read any longer"));
    }
    let mut told = String::new();
    for Other { name, now } in others {
        let Some(now) = now else { continue };
        if !positions.others.contains_key(*name) {
            return Err(format!("the domain {name} was not read before"));
        }
        let Some(feed) = now.feed else {
            return Err(format!("the domain {name} offers no change feed that can be used"));
        };
        follows(feed, positions.of(Some(name))).map_err(|why| format!("of the domain {name}: {why}"))?;
        told += &format!(", of {name} by {}", feed.kind.code());
    }
    Ok(told)
}

/// An offer in words, for status.
pub(crate) fn told(offer: &Offer) -> String {
    let feed = offer.kind.code();
    match (&offer.usable, &offer.misses) {
        (Err(why), _) => format!("{feed}: no, {why}"),
        (Ok(()), Some(misses)) => format!("{feed}: yes, {misses}"),
        (Ok(()), None) => format!("{feed}: yes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::positions::OtherPosition;
    use crate::positions::tests::position;
    use domain::settings::Feed;

    const NOW: i64 = 1_800_000_000_000;

    fn offer(misses: bool) -> Offer {
        let misses = misses.then(|| "what was deleted".into());
        Offer { kind: Feed::Syncrepl, usable: Ok(()), misses, persists: false }
    }

    fn state() -> GetSourceReply {
        GetSourceReply {
            position: Positions { own: Some(position("eA==")), ..Positions::default() }.written(),
            items_digest: "items".into(),
            identity: "source".into(),
            full_unix_ms: NOW - HOUR_MS,
            complete_unix_ms: NOW - HOUR_MS,
            users: 10,
            missed: 0,
            pins: Vec::new(),
            mapping_digest: "map".into(),
        }
    }

    fn asked(what: What, accept_source: bool) -> Trigger {
        Trigger::Request(Asked { what, accept_source, ..Asked::default() })
    }

    #[test]
    fn each_mode_has_its_reason() {
        // FS-01, FS-04, FS-09, S-20, S-30, S-39, S-44
        let known = state();
        let silent = GetSourceReply { complete_unix_ms: NOW - 61 * 24 * HOUR_MS, ..state() };
        let (old, new) = (GetSourceReply { full_unix_ms: NOW - 24 * HOUR_MS, ..state() }, GetSourceReply::default());
        let missed = GetSourceReply { missed: 2, ..state() };
        let remapped = GetSourceReply { mapping_digest: "another map".into(), ..state() };
        let nowhere = GetSourceReply { position: Vec::new(), ..state() };
        let (misses, sees) = (offer(true), offer(false));
        let now = Trigger::Schedule;
        for (state, identity, always_full, feed, trigger, mode, why) in [
            (&known, "source", false, Some(&misses), &now, Mode::Incremental, "changes since the last run by syncrepl"),
            (&known, "source", true, Some(&misses), &now, Mode::Full, "always_full"),
            (&known, "source", false, None, &now, Mode::Full, "no change feed"),
            (&nowhere, "source", false, Some(&sees), &now, Mode::Full, "no position"),
            (&remapped, "source", false, Some(&sees), &now, Mode::Full, "other attributes"),
            (&silent, "source", false, Some(&sees), &now, Mode::Full, "60 days"),
            (&old, "source", false, Some(&misses), &now, Mode::Full, "every 24 hours"),
            (&missed, "source", false, Some(&misses), &now, Mode::Full, "2 known users or groups were not found"),
            (&old, "source", false, Some(&sees), &now, Mode::Full, "every 24 hours"),
            (&known, "", false, None, &now, Mode::Full, "could not be asked"),
            (&known, "other", false, Some(&sees), &now, Mode::Preview, "another than at the last run"),
            (&known, "", false, Some(&sees), &now, Mode::Incremental, ""),
            (&known, "other", false, Some(&sees), &asked(What::Full, false), Mode::Preview, "another"),
            (&known, "other", false, Some(&sees), &asked(What::Full, true), Mode::Full, "asked for"),
            (&known, "source", false, Some(&sees), &asked(What::Full, false), Mode::Full, "asked for"),
            (&known, "source", false, Some(&sees), &asked(What::Changes, false), Mode::Incremental, ""),
            (&new, "source", false, Some(&sees), &asked(What::Changes, false), Mode::Full, "nobody has asked"),
            (&known, "source", false, Some(&sees), &asked(What::Preview, false), Mode::Preview, "a preview"),
        ] {
            let (items_digest, mapping_digest) = ("items", "map");
            let facts = Facts {
                state,
                identity,
                items_digest,
                mapping_digest,
                always_full,
                directory: None,
                feed,
                others: Some(&[]),
            };
            let (found, because) = of(&facts, trigger, NOW);
            assert_eq!(found, mode, "{because}");
            assert!(because.contains(why), "{because}");
        }
        let facts = Facts {
            state: &known,
            identity: "source",
            items_digest: "new",
            mapping_digest: "map",
            always_full: false,
            directory: None,
            feed: None,
            others: Some(&[]),
        };
        assert_eq!(of(&facts, &asked(What::Changes, false), NOW).0, Mode::Full, "FS-09");
    }

    /// Read before: `child.test` by a feed, `west.test` by none.
    fn with_domains() -> GetSourceReply {
        let of = |identity: &str, position| OtherPosition { identity: identity.into(), position };
        let others = [("child.test", of("C", Some(position("Yw==")))), ("west.test", of("W", None))];
        let others = others.map(|(name, other)| (name.to_owned(), other)).into();
        GetSourceReply { position: Positions { own: Some(position("eA==")), others }.written(), ..state() }
    }

    #[test]
    fn it_is_incremental_where_all_domains_are_and_says_which_one_is_not() {
        // FD-02, FS-04, S-53
        let (known, feed) = (with_domains(), offer(false));
        let followed = Positions {
            others: Positions::read(&known.position)
                .expect("readable")
                .others
                .into_iter()
                .filter(|(name, _)| name == "child.test")
                .collect(),
            own: Some(position("eA==")),
        };
        let followed = GetSourceReply { position: followed.written(), ..state() };
        let unreadable = GetSourceReply { position: b"{}".to_vec(), ..state() };
        let dirsync = Offer { kind: Feed::DirSync, ..offer(false) };
        let now = |name, identity, feed| Other { name, now: Some(OtherNow { identity, feed }) };
        let silent = |name| Other { name, now: None };
        let child = || now("child.test", "C", Some(&feed));
        let west = || now("west.test", "W", Some(&feed));
        for (state, others, mode, why) in [
            (&followed, Some(vec![child()]), Mode::Incremental, "by syncrepl, of child.test by syncrepl"),
            (&followed, Some(vec![silent("child.test")]), Mode::Incremental, "by syncrepl"),
            (&followed, None, Mode::Incremental, "by syncrepl"),
            (&followed, Some(vec![child(), west()]), Mode::Full, "the domain west.test was not read before"),
            (&followed, Some(vec![child(), silent("west.test")]), Mode::Incremental, "of child.test by syncrepl"),
            (&followed, Some(Vec::new()), Mode::Full, "the domain child.test is not among those"),
            (&followed, Some(vec![now("child.test", "C", None)]), Mode::Full, "child.test offers no change feed"),
            (
                &followed,
                Some(vec![now("child.test", "C", Some(&dirsync))]),
                Mode::Full,
                "of the domain child.test: the feed was another",
            ),
            (&known, Some(vec![child(), west()]), Mode::Full, "of the domain west.test: there is no position"),
            (&followed, Some(vec![now("child.test", "X", Some(&feed))]), Mode::Preview, "child.test is another one"),
            (&unreadable, Some(vec![child()]), Mode::Full, "cannot be read"),
        ] {
            let facts = Facts {
                state,
                identity: "source",
                items_digest: "items",
                mapping_digest: "map",
                always_full: false,
                directory: None,
                feed: Some(&feed),
                others: others.as_deref(),
            };
            let (found, because) = of(&facts, &Trigger::Schedule, NOW);
            assert_eq!(found, mode, "{because}");
            assert!(because.contains(why), "{because}");
        }
    }

    #[test]
    fn another_domain_under_a_known_name_is_accepted_as_another_directory_is() {
        // S-44, FD-02
        let state = with_domains();
        let others = [Other { name: "child.test", now: Some(OtherNow { identity: "X", feed: None }) }];
        let facts = Facts {
            state: &state,
            identity: "source",
            items_digest: "items",
            mapping_digest: "map",
            always_full: true,
            directory: None,
            feed: None,
            others: Some(&others),
        };
        for (trigger, mode, identity) in [
            (Trigger::Schedule, Mode::Preview, "source child.test X"),
            (asked(What::Full, false), Mode::Preview, "source child.test X"),
            (asked(What::Full, true), Mode::Full, "source"),
        ] {
            let (found, because) = of(&facts, &trigger, NOW);
            assert_eq!(found, mode, "{because}");
            assert_eq!(facts.identity_of(found), identity, "what is accepted is told apart from what is shown");
        }
    }

    #[test]
    fn nothing_runs_by_itself_before_somebody_asked_and_while_changed_items_wait() {
        // FS-01, FS-09
        assert_eq!(waits(&state(), "items"), None);
        assert!(waits(&GetSourceReply::default(), "items").is_some_and(|why| why.contains("asked")));
        assert!(waits(&state(), "others").is_some_and(|why| why.contains("items were changed")));
    }
}
