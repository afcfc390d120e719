//! What a commit may do, decided on facts read under the chain's lock. Pure: facts in, answers and changed facts out.
//!
//! ```text
//! Working (as read) --reserve, spend, allow, record--> answers + Working (changed rows marked, events to append)
//! ```
//!
//! Operations of one group see the changes of those before them, as if each had a transaction of its own.

use super::proofs::{Attempt, Proof, Proofs};
use crate::audit::NewEvent;
use crate::throttle::{Counter, RESERVE_TRIES, Try, UNVERIFIED_TRIES, Window};
use crate::users::is_blocked;
use proto::user_store::{
    AllowResult, AuditEvent, CommitAllowRequest, RecordRequest, ReserveTryReply, ReserveTryRequest, SpendCodeRequest,
    SpendResult, TryCodeReply, TryCodeResult, TryKind,
};
use std::collections::{HashMap, HashSet};

/// The furthest a token's clock may be away, in steps: what codes in a row can show (V-12). How far a success is followed is
/// the verifier's to say.
pub const DRIFT_MAX: i32 = 100;

/// The facts a group of operations stands on, and what it makes of them.
#[derive(Default)]
pub struct Working {
    pub people: HashMap<String, Person>,
    pub factors: HashMap<String, Factor>,
    pub guards: HashMap<String, Guard>,
    /// By user id and source.
    pub sources: HashMap<(String, String), Source>,
    /// By transaction id: the request that had the last word.
    pub finals: HashMap<String, Final>,
    /// Transaction id and digest of what stands beside a last word.
    pub beside: HashSet<(String, Vec<u8>)>,
    /// By transaction id.
    pub spends: HashMap<String, Spend>,
    pub proofs: Proofs,
    pub events: Vec<NewEvent>,
}

/// What a user row says about letting somebody in.
#[derive(Clone)]
pub struct Person {
    pub enabled: bool,
    /// -1 = until somebody unblocks, 0 = not blocked (FV-25).
    pub blocked_until_ms: i64,
    pub epoch: i64,
}

impl Person {
    fn may_enter(&self, now_ms: i64) -> bool {
        self.enabled && !is_blocked(self.blocked_until_ms, now_ms)
    }
}

pub struct Factor {
    pub user_id: String,
    pub pending: bool,
    /// `totp` or `hotp`
    pub kind: String,
    /// The last accepted time step, or counter.
    pub last_step: i64,
    pub drift: i64,
    pub counter: Counter,
    pub last_used_ms: i64,
    /// As read; the write names it.
    pub revision: i64,
    pub changed: bool,
}

#[derive(Default)]
pub struct Guard {
    pub unverified: Window<UNVERIFIED_TRIES>,
    pub last_success_ms: i64,
    pub changed: bool,
}

pub struct Source {
    pub last_success_ms: i64,
    pub reserve: Window<RESERVE_TRIES>,
    pub changed: bool,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Final {
    pub request: Vec<u8>,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It stands in the audit, now or since before.
    Recorded,
    /// The attempt has another last word: nothing was written.
    Otherwise,
}

pub struct Spend {
    pub user_id: String,
    pub factor_id: String,
    pub step: i64,
    pub spent_ms: i64,
    /// Made by this group: still to be written.
    pub new: bool,
}

impl Working {
    pub fn reserve(&mut self, request: &ReserveTryRequest) -> ReserveTryReply {
        let now_ms = request.now_unix_ms;
        let Some(factor) = self.factors.get_mut(&request.factor_id).filter(|it| it.user_id == request.user_id) else {
            return ReserveTryReply { granted: false, retry_unix_ms: 0 };
        };
        let outcome = match TryKind::try_from(request.kind) {
            // V-14: a hard lock holds on every way to a code; guesses without the password neither add to it nor get around it.
            Ok(TryKind::Unverified) if factor.counter.is_locked() => Try::Refused(None),
            Ok(TryKind::Unverified) => {
                let guard = self.guards.entry(request.user_id.clone()).or_default();
                let outcome = guard.unverified.reserve(now_ms);
                guard.changed |= outcome == Try::Granted;
                outcome
            }
            Ok(TryKind::AfterPassword) => {
                let mut outcome = factor.counter.reserve(now_ms);
                if outcome != Try::Granted
                    && let Some(source) = self.sources.get_mut(&(request.user_id.clone(), request.source.clone()))
                    && factor.counter.reserve_at(source.last_success_ms, &mut source.reserve, now_ms)
                {
                    source.changed = true;
                    outcome = Try::Granted;
                }
                factor.changed |= outcome == Try::Granted;
                outcome
            }
            // V-75: an unknown kind is refused.
            Ok(TryKind::Unspecified) | Err(_) => Try::Refused(None),
        };
        match outcome {
            Try::Granted => ReserveTryReply { granted: true, retry_unix_ms: 0 },
            Try::Refused(open_ms) => ReserveTryReply { granted: false, retry_unix_ms: open_ms.unwrap_or(0) },
        }
    }

    /// A try at a code: counted first, and only one that is granted lets in or hears that the code was wrong (V-14). `request` is the
    /// digest of what is asked, as for [`Working::allow`].
    pub fn try_code(&mut self, asked: &CommitAllowRequest, matched: bool, request: Vec<u8>) -> TryCodeReply {
        let said = |result: TryCodeResult| TryCodeReply { result: result.into(), retry_unix_ms: 0 };
        let Some(event) = &asked.event else { return said(TryCodeResult::Refused) };
        // V-02: the same request asking again was counted when it was let in.
        if matched && self.finals.get(&event.transaction_id).is_some_and(|last| last.request == request) {
            return said(TryCodeResult::Allowed);
        }
        let reserved = self.reserve(&ReserveTryRequest {
            user_id: event.user_id.clone(),
            factor_id: asked.counted_factor_id.clone(),
            source: asked.source.clone(),
            kind: TryKind::AfterPassword.into(),
            now_unix_ms: event.at_unix_ms,
        });
        if !reserved.granted {
            return TryCodeReply { retry_unix_ms: reserved.retry_unix_ms, ..said(TryCodeResult::Throttled) };
        }
        if !matched {
            return said(TryCodeResult::Wrong);
        }
        said(match self.allow(asked, request) {
            AllowResult::Committed => TryCodeResult::Allowed,
            AllowResult::Reused => TryCodeResult::Reused,
            AllowResult::Spent => TryCodeResult::Spent,
            AllowResult::Refused | AllowResult::Unspecified => TryCodeResult::Refused,
        })
    }

    pub fn spend(&mut self, request: &SpendCodeRequest) -> SpendResult {
        let Ok(step) = i64::try_from(request.step) else { return SpendResult::Reused };
        if self.spends.contains_key(&request.transaction_id) || self.finals.contains_key(&request.transaction_id) {
            return SpendResult::Reused;
        }
        let enabled = self.people.get(&request.user_id).is_some_and(|it| it.may_enter(request.now_unix_ms));
        let Some(factor) = self.own_factor(&request.user_id, &request.factor_id).filter(|_| enabled) else {
            return SpendResult::Reused;
        };
        if step <= factor.last_step {
            return SpendResult::Reused;
        }
        factor.last_step = step;
        factor.changed = true;
        let spend = Spend {
            user_id: request.user_id.clone(),
            factor_id: request.factor_id.clone(),
            step,
            spent_ms: request.now_unix_ms,
            new: true,
        };
        self.spends.insert(request.transaction_id.clone(), spend);
        SpendResult::Spent
    }

    /// `request` is the digest of what is asked ([`super::allow_digest`]).
    pub fn allow(&mut self, asked: &CommitAllowRequest, request: Vec<u8>) -> AllowResult {
        let Some(event) = &asked.event else { return AllowResult::Refused };
        if let Some(last) = self.finals.get(&event.transaction_id) {
            // V-02: the same request asking again gets the first result, any other finds the transaction spent.
            return if last.request == request { AllowResult::Committed } else { AllowResult::Spent };
        }
        let Some(proof) = Proof::of(asked, event) else { return AllowResult::Refused };
        if event.transaction_id.is_empty() || (event.user_id.is_empty() && proof.needs_user(event)) {
            return AllowResult::Refused;
        }
        // Who is proven to be unknown has no row that could let or refuse them.
        if event.source == "unknown_user" && !event.user_id.is_empty() {
            return AllowResult::Refused;
        }
        let person = self.people.get(&event.user_id);
        if !event.user_id.is_empty() && !person.is_some_and(|it| it.may_enter(event.at_unix_ms)) {
            return AllowResult::Refused;
        }
        let attempt = Attempt { event, epoch: person.map_or(0, |it| it.epoch), pin_handle: &asked.pin_handle };
        if proof == Proof::Code {
            match self.code(asked, event) {
                AllowResult::Committed => {}
                refused => return refused,
            }
        }
        if !self.proofs.is_good(proof, attempt) {
            return AllowResult::Refused;
        }
        // From here on it is let in.
        if proof == Proof::Code {
            self.use_code(asked, event);
        }
        self.proofs.spend(proof, attempt);
        if let Some(remember) = &asked.remember {
            self.proofs.remember(remember, attempt);
        }
        if !event.user_id.is_empty() {
            let guard = self.guards.entry(event.user_id.clone()).or_default();
            guard.last_success_ms = event.at_unix_ms;
            guard.changed = true;
            // V-15: only a live second factor makes a place a usual one.
            if event.source == "live" && !asked.source.is_empty() {
                let key = (event.user_id.clone(), asked.source.clone());
                let fresh = Source { last_success_ms: 0, reserve: Window::default(), changed: true };
                let source = self.sources.entry(key).or_insert(fresh);
                source.last_success_ms = event.at_unix_ms;
                source.changed = true;
            }
        }
        self.finals.insert(event.transaction_id.clone(), Final { request: request.clone() });
        self.events.push(NewEvent { event: event.clone(), last: true, request });
        AllowResult::Committed
    }

    /// The event of an attempt that ended otherwise; the first one of a transaction is its last word. `request` is the digest of
    /// what is asked ([`super::record_digest`]); no Allow is ever the same request.
    pub fn record(&mut self, asked: &RecordRequest, request: Vec<u8>) -> Recorded {
        let Some(event) = &asked.event else { return Recorded::Otherwise };
        let last = match self.finals.get(&event.transaction_id) {
            None => !event.transaction_id.is_empty(),
            Some(before) if before.request == request => return Recorded::Recorded,
            // V-40: who is in already has an event, once, whatever the attempt had come to before.
            Some(_) if !asked.let_in_before => return Recorded::Otherwise,
            Some(_) if !self.beside.insert((event.transaction_id.clone(), request.clone())) => {
                return Recorded::Recorded;
            }
            Some(_) => false,
        };
        if last {
            self.finals.insert(event.transaction_id.clone(), Final { request: request.clone() });
        }
        self.events.push(NewEvent { event: event.clone(), last, request });
        Recorded::Recorded
    }

    /// May this code let in? Changes nothing.
    fn code(&mut self, asked: &CommitAllowRequest, event: &AuditEvent) -> AllowResult {
        let Ok(step) = i64::try_from(asked.step) else { return AllowResult::Refused };
        let mark = self.spends.get(&event.transaction_id);
        let marked =
            mark.is_some_and(|it| it.user_id == event.user_id && it.factor_id == asked.factor_id && it.step == step);
        match self.own_factor(&event.user_id, &asked.factor_id) {
            None => AllowResult::Refused,
            Some(_) if asked.spent_before && !marked => AllowResult::Refused,
            // V-11, V-13
            Some(factor) if !asked.spent_before && step <= factor.last_step => AllowResult::Reused,
            Some(_) => AllowResult::Committed,
        }
    }

    fn use_code(&mut self, asked: &CommitAllowRequest, event: &AuditEvent) {
        let Some(factor) = self.own_factor(&event.user_id, &asked.factor_id) else { return };
        factor.last_step = factor.last_step.max(i64::try_from(asked.step).unwrap_or(factor.last_step));
        if factor.kind == "totp" {
            // V-12
            factor.drift = i64::from(asked.drift.clamp(-DRIFT_MAX, DRIFT_MAX));
        }
        factor.counter = Counter::default();
        factor.last_used_ms = event.at_unix_ms;
        factor.changed = true;
        // V-14: the try may have been counted on another factor of the user; a success ends the failures in a row there too.
        let counted = self.own_factor(&event.user_id, &asked.counted_factor_id);
        if let Some(counted) = counted.filter(|it| it.counter != Counter::default()) {
            counted.counter = Counter::default();
            counted.changed = true;
        }
    }

    fn own_factor(&mut self, user_id: &str, factor_id: &str) -> Option<&mut Factor> {
        self.factors.get_mut(factor_id).filter(|factor| factor.user_id == user_id && !factor.pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::throttle::SOURCE_LIFE_MS;

    fn working() -> Working {
        let factor = Factor {
            user_id: "ann".into(),
            pending: false,
            kind: "totp".into(),
            last_step: 100,
            drift: 0,
            counter: Counter { failures: 3, open_ms: 0 },
            last_used_ms: 0,
            revision: 1,
            changed: false,
        };
        let person = |enabled| Person { enabled, blocked_until_ms: 0, epoch: 7 };
        let blocked = |until| Person { blocked_until_ms: until, ..person(true) };
        Working {
            people: HashMap::from([
                ("ann".into(), person(true)),
                ("bob".into(), person(true)),
                ("eve".into(), person(false)),
                ("mal".into(), blocked(-1)),
                ("joe".into(), blocked(5_001)),
            ]),
            factors: HashMap::from([("phone".into(), factor)]),
            ..Working::default()
        }
    }

    fn event(transaction: &str, user: &str) -> AuditEvent {
        AuditEvent {
            at_unix_ms: 5_000,
            kind: "authentication".into(),
            transaction_id: transaction.into(),
            client: "vpn".into(),
            user_id: user.into(),
            reason: "valid_code".into(),
            method: "code".into(),
            source: "live".into(),
            ..AuditEvent::default()
        }
    }

    fn allow(transaction: &str, step: u64) -> CommitAllowRequest {
        let event = Some(event(transaction, "ann"));
        let (factor_id, source) = ("phone".into(), "10.0.0.1".into());
        CommitAllowRequest { event, factor_id, step, source, ..CommitAllowRequest::default() }
    }

    #[test]
    fn a_later_step_is_accepted_once_and_sets_the_counters_back() {
        // V-11, V-14
        let mut working = working();
        assert_eq!(working.allow(&allow("t1", 101), vec![1]), AllowResult::Committed);
        let factor = &working.factors["phone"];
        assert_eq!((factor.last_step, factor.counter, factor.changed), (101, Counter::default(), true));
        assert_eq!(working.allow(&allow("t2", 101), vec![2]), AllowResult::Reused);
        assert_eq!(working.allow(&allow("t3", 100), vec![3]), AllowResult::Reused);
        assert_eq!(working.events.len(), 1);
        assert!(working.events[0].last);
    }

    #[test]
    fn a_success_sets_back_the_count_of_the_users_factor_the_try_was_counted_on() {
        // V-14
        for (owner, pending, failures) in [("ann", false, 0), ("bob", false, 9), ("ann", true, 9)] {
            let mut working = working();
            let other = Factor {
                user_id: owner.into(),
                pending,
                kind: "totp".into(),
                last_step: 7,
                drift: 2,
                counter: Counter { failures: 9, open_ms: 99_000 },
                last_used_ms: 3,
                revision: 4,
                changed: false,
            };
            working.factors.insert("counted".into(), other);
            let asked = CommitAllowRequest { counted_factor_id: "counted".into(), ..allow("t1", 101) };
            assert_eq!(working.allow(&asked, vec![1]), AllowResult::Committed);
            let counted = &working.factors["counted"];
            assert_eq!((counted.counter.failures, counted.changed), (failures, failures == 0), "{owner} {pending}");
            assert_eq!((counted.last_step, counted.drift, counted.last_used_ms), (7, 2, 3), "no code of it was used");
        }
    }

    #[test]
    fn a_transaction_has_one_last_word_and_only_the_same_request_hears_it_again() {
        // V-02, V-61
        let mut working = working();
        assert_eq!(working.allow(&allow("t1", 101), vec![1]), AllowResult::Committed);
        assert_eq!(working.allow(&allow("t1", 101), vec![1]), AllowResult::Committed);
        assert_eq!(working.allow(&allow("t1", 102), vec![2]), AllowResult::Spent);
        let recorded =
            |transaction| RecordRequest { event: Some(event(transaction, "ann")), ..RecordRequest::default() };
        assert_eq!(working.record(&recorded("t1"), vec![8]), Recorded::Otherwise);
        assert_eq!(working.record(&recorded("t2"), vec![9]), Recorded::Recorded);
        assert_eq!(working.record(&recorded("t2"), vec![9]), Recorded::Recorded, "the same again");
        assert_eq!(working.allow(&allow("t2", 103), vec![3]), AllowResult::Spent);
        assert_eq!(working.events.len(), 2);
        assert_eq!(working.factors["phone"].last_step, 101);
    }

    #[test]
    fn who_was_let_in_before_it_could_be_told_has_one_event_beside_the_last_word() {
        // V-40, V-61
        let mut working = working();
        let event = Some(event("t1", "ann"));
        let denied = RecordRequest { event: event.clone(), let_in_before: false };
        let told = RecordRequest { event, let_in_before: true };
        working.record(&denied, vec![1]);
        for _ in 0..3 {
            assert_eq!(working.record(&told, vec![2]), Recorded::Recorded);
        }
        let last: Vec<bool> = working.events.iter().map(|new| new.last).collect();
        assert_eq!(last, [true, false]);
    }

    fn try_code(working: &mut Working, transaction: &str, step: u64, matched: bool) -> TryCodeReply {
        let asked = CommitAllowRequest { counted_factor_id: "phone".into(), ..allow(transaction, step) };
        working.try_code(&asked, matched, vec![step as u8])
    }

    #[test]
    fn a_right_code_lets_in_only_where_its_try_is_granted() {
        // V-14: one try left, and two that come at once
        use TryCodeResult::{Allowed, Throttled, Wrong};
        for (codes, results, left) in [
            ([false, true], [Wrong, Throttled], (100, 5, 0)),
            ([true, false], [Allowed, Wrong], (101, 1, 1)),
            ([false, false], [Wrong, Throttled], (100, 5, 0)),
        ] {
            let mut working = working();
            working.factors.get_mut("phone").expect("there").counter = Counter { failures: 4, open_ms: 0 };
            let said = codes.map(|right| try_code(&mut working, if right { "right" } else { "wrong" }, 101, right));
            assert_eq!(said.map(|reply| reply.result()), results, "{codes:?}");
            assert_eq!(said[1].retry_unix_ms, if results[1] == Throttled { 5_000 + 30_000 } else { 0 });
            let factor = &working.factors["phone"];
            assert_eq!((factor.last_step, factor.counter.failures, working.events.len()), left, "{codes:?}");
        }
    }

    #[test]
    fn a_try_that_let_in_is_heard_again_and_any_other_is_counted() {
        // V-02, V-14
        use TryCodeResult::{Allowed, Refused, Reused, Spent, Wrong};
        let mut working = working();
        for (transaction, step, matched, result, failures) in [
            ("t1", 101, true, Allowed, 0),
            ("t1", 101, true, Allowed, 0),
            ("t1", 101, false, Wrong, 1),
            ("t1", 102, true, Spent, 2),
            ("t2", 101, true, Reused, 3),
            ("t3", u64::MAX, true, Refused, 4),
        ] {
            let reply = try_code(&mut working, transaction, step, matched);
            let counted = working.factors["phone"].counter.failures;
            assert_eq!((reply.result(), counted), (result, failures), "{transaction} {step} {matched}");
        }
        assert_eq!((working.events.len(), working.factors["phone"].last_step), (1, 101));
    }

    #[test]
    fn nothing_is_allowed_that_names_no_enabled_user_no_own_factor_or_no_transaction() {
        type Change = fn(&mut CommitAllowRequest);
        let changes: [(&str, Change); 12] = [
            ("no event", |it| it.event = None),
            ("disabled user", |it| it.event.as_mut().expect("set").user_id = "eve".into()),
            ("user blocked for good", |it| it.event.as_mut().expect("set").user_id = "mal".into()),
            ("user blocked for another millisecond", |it| it.event.as_mut().expect("set").user_id = "joe".into()),
            ("a second proof beside the code", |it| it.bypass_id = "b".into()),
            ("erased user", |it| it.event.as_mut().expect("set").user_id = "gone".into()),
            ("another's factor", |it| it.event.as_mut().expect("set").user_id = "bob".into()),
            ("no such factor", |it| it.factor_id = "tablet".into()),
            ("a code without a factor", |it| it.factor_id.clear()),
            ("no user", |it| it.event.as_mut().expect("set").user_id.clear()),
            ("no transaction", |it| it.event.as_mut().expect("set").transaction_id.clear()),
            ("a step beyond all time", |it| it.step = u64::MAX),
        ];
        for (name, change) in changes {
            let mut working = working();
            let mut asked = allow("t", 101);
            change(&mut asked);
            assert_eq!(working.allow(&asked, vec![1]), AllowResult::Refused, "{name}");
            assert!(working.events.is_empty() && !working.factors["phone"].changed, "{name}");
        }
        let mut pending = working();
        pending.factors.get_mut("phone").expect("there").pending = true;
        assert_eq!(pending.allow(&allow("t", 101), vec![1]), AllowResult::Refused);
    }

    #[test]
    fn who_is_in_no_store_passes_only_by_a_rule_that_says_so() {
        let asked = |user: &str, source: &str, reason: &str| CommitAllowRequest {
            event: Some(AuditEvent {
                method: String::new(),
                source: source.into(),
                reason: reason.into(),
                ..event("t", user)
            }),
            ..CommitAllowRequest::default()
        };
        for (user, source, reason, result) in [
            ("", "unknown_user", "unknown_user_passed", AllowResult::Committed),
            ("", "exempt", "exempt", AllowResult::Committed),
            ("", "exempt", "service_account", AllowResult::Committed),
            ("", "exempt", "observed", AllowResult::Committed),
            ("", "not_enrolled", "not_enrolled_passed", AllowResult::Refused),
            ("", "trusted_network", "trusted_network", AllowResult::Refused),
            ("", "live", "valid_code", AllowResult::Refused),
            ("", "fail_open", "fail_open", AllowResult::Refused),
            ("", "", "", AllowResult::Refused),
            ("ann", "unknown_user", "unknown_user_passed", AllowResult::Refused),
            ("ann", "not_enrolled", "not_enrolled_passed", AllowResult::Committed),
            ("ann", "trusted_network", "trusted_network", AllowResult::Committed),
            ("ann", "exempt", "exempt", AllowResult::Committed),
            ("ann", "exempt", "valid_code", AllowResult::Refused),
            ("ann", "fail_open", "fail_open", AllowResult::Refused),
            ("mal", "exempt", "exempt", AllowResult::Refused),
        ] {
            assert_eq!(working().allow(&asked(user, source, reason), vec![1]), result, "{user} {source} {reason}");
        }
    }

    #[test]
    fn a_success_says_how_far_a_token_is_away_and_a_counter_has_no_drift() {
        // V-12, V-13
        for (kind, drift, kept) in [("totp", 3, 3), ("totp", -9999, -100), ("hotp", 3, 0)] {
            let mut working = working();
            working.factors.get_mut("phone").expect("there").kind = kind.into();
            let asked = CommitAllowRequest { drift, ..allow("t", 101) };
            assert_eq!(working.allow(&asked, vec![1]), AllowResult::Committed);
            assert_eq!(working.factors["phone"].drift, kept, "{kind} {drift}");
        }
    }

    #[test]
    fn a_code_spent_beforehand_counts_for_its_own_transaction_only() {
        // L-53
        let spend = SpendCodeRequest {
            transaction_id: "t1".into(),
            user_id: "ann".into(),
            factor_id: "phone".into(),
            step: 101,
            now_unix_ms: 0,
        };
        let mut working = working();
        assert_eq!(working.spend(&spend), SpendResult::Spent);
        assert_eq!(working.spend(&spend), SpendResult::Reused);
        assert_eq!(working.spend(&SpendCodeRequest { transaction_id: "t2".into(), ..spend }), SpendResult::Reused);
        assert_eq!(working.allow(&allow("t3", 101), vec![3]), AllowResult::Reused);
        let before = |transaction| CommitAllowRequest { spent_before: true, ..allow(transaction, 101) };
        assert_eq!(working.allow(&before("t4"), vec![4]), AllowResult::Refused);
        assert_eq!(working.allow(&before("t1"), vec![1]), AllowResult::Committed);
    }

    #[test]
    fn a_usual_place_keeps_three_tries_an_hour_while_the_user_is_locked_from_elsewhere() {
        // V-15
        let mut working = working();
        assert_eq!(working.allow(&allow("t1", 101), vec![1]), AllowResult::Committed);
        working.factors.get_mut("phone").expect("there").counter = Counter { failures: 100, open_ms: 0 };
        let reserve = |source: &str, now_unix_ms| ReserveTryRequest {
            user_id: "ann".into(),
            factor_id: "phone".into(),
            source: source.into(),
            kind: TryKind::AfterPassword.into(),
            now_unix_ms,
        };
        assert!(!working.reserve(&reserve("203.0.113.9", 6_000)).granted);
        let usual = (0..10).filter(|_| working.reserve(&reserve("10.0.0.1", 6_000)).granted).count();
        assert_eq!(usual, 3);
        assert!(working.reserve(&reserve("10.0.0.1", 6_000 + 3_600_000)).granted);
        assert!(!working.reserve(&reserve("10.0.0.1", 5_000 + SOURCE_LIFE_MS)).granted, "the place is forgotten");
    }

    #[test]
    fn tries_without_the_password_have_their_own_budget_and_never_lock() {
        // L-54
        let mut working = working();
        let reserve = |kind: TryKind| ReserveTryRequest {
            user_id: "ann".into(),
            factor_id: "phone".into(),
            source: "x".into(),
            kind: kind.into(),
            now_unix_ms: 9,
        };
        let granted = (0..10_000).filter(|_| working.reserve(&reserve(TryKind::Unverified)).granted).count();
        assert_eq!(granted, 20);
        assert!(working.reserve(&reserve(TryKind::AfterPassword)).granted);
        assert!(!working.reserve(&reserve(TryKind::Unspecified)).granted);
    }

    #[test]
    fn a_hard_lock_is_not_got_around_by_a_code_before_the_password() {
        // V-14, L-54
        let mut working = working();
        working.factors.get_mut("phone").expect("there").counter = Counter { failures: 100, open_ms: 0 };
        let request = ReserveTryRequest {
            user_id: "ann".into(),
            factor_id: "phone".into(),
            source: "x".into(),
            kind: TryKind::Unverified.into(),
            now_unix_ms: 9,
        };
        assert!(!working.reserve(&request).granted);
        assert!(working.guards.is_empty() && !working.factors["phone"].changed);
    }
}
