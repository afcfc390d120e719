//! Open questions to a person's phone (V-21, V-23, FV-24, FV-26).

use crate::commit::allowed;
use crate::fixture::{Enrolled, Fixture, NOON_MS};
use proto::user_store::{
    AllowResult, AuditEvent, CommitAllowRequest, GetPromptsRequest, OpenPromptReply, OpenPromptRequest, Prompt,
    PromptResult, ResolvePromptReply, ResolvePromptRequest, UpdatePromptRequest, UserPromptsRequest,
    commit_server::Commit,
};
use tonic::Request;

const MINUTE_MS: i64 = 60_000;

pub fn open(who: &Enrolled, transaction: &str, method: &str, now_ms: i64) -> OpenPromptRequest {
    let prompt = Prompt {
        transaction_id: transaction.into(),
        user_id: who.user_id.clone(),
        method: method.into(),
        client: "vpn".into(),
        application: "VPN".into(),
        username: who.username.clone(),
        place: "10.0.4.3".into(),
        expires_unix_ms: now_ms + 110_000,
        state_json: "{}".into(),
        ..Prompt::default()
    };
    OpenPromptRequest {
        prompt: Some(prompt),
        cool_down_seconds: 60,
        prompts_per_day: 50,
        calls_per_hour: 10,
        now_unix_ms: now_ms,
        ..OpenPromptRequest::default()
    }
}

pub async fn opened(lab: &Fixture, request: OpenPromptRequest) -> OpenPromptReply {
    lab.services.commit.open_prompt(Request::new(request)).await.expect("the store answers").into_inner()
}

pub async fn resolved(lab: &Fixture, request: ResolvePromptRequest) -> ResolvePromptReply {
    lab.services.commit.resolve_prompt(Request::new(request)).await.expect("the store answers").into_inner()
}

pub fn answer(prompt_id: &str, outcome: &str, now_ms: i64) -> ResolvePromptRequest {
    ResolvePromptRequest {
        prompt_id: prompt_id.into(),
        outcome: outcome.into(),
        answered_by: "Pixel of Ann".into(),
        assurance: if outcome == "approved" { "approve_only".into() } else { String::new() },
        answer_digest: outcome.as_bytes().to_vec(),
        now_unix_ms: now_ms,
        ..ResolvePromptRequest::default()
    }
}

pub async fn prompt_id(lab: &Fixture, who: &Enrolled, transaction: &str, now_ms: i64) -> String {
    let reply = opened(lab, open(who, transaction, "push", now_ms)).await;
    assert_eq!(reply.result(), PromptResult::Opened);
    reply.prompt.expect("as it stands").prompt_id
}

pub fn allow_by(who: &Enrolled, transaction: &str, prompt_id: &str, now_ms: i64) -> CommitAllowRequest {
    let event = AuditEvent {
        at_unix_ms: now_ms,
        method: "push".into(),
        reason: "user_approved".into(),
        assurance: "approve_only".into(),
        ..who.event(transaction)
    };
    CommitAllowRequest { event: Some(event), prompt_id: prompt_id.into(), ..CommitAllowRequest::default() }
}

async fn states(lab: &Fixture, prompt_id: &str) -> Prompt {
    let request = GetPromptsRequest { prompt_ids: vec![prompt_id.into()], ..GetPromptsRequest::default() };
    let found = lab.services.commit.get_prompts(Request::new(request)).await.expect("the store answers").into_inner();
    found.prompts.into_iter().next().expect("there")
}

pub async fn a_user_has_one_open_prompt_whoever_asks_at_once(lab: Fixture) {
    // V-23, B-85: 50 clients with the right password at one moment
    let ann = lab.enrolled("ann").await;
    let asked = (0..50).map(|number| opened(&lab, open(&ann, &format!("t{number}"), "push", NOON_MS)));
    let replies = futures::future::join_all(asked).await;
    let count = |result| replies.iter().filter(|reply| reply.result() == result).count();
    assert_eq!((count(PromptResult::Opened), count(PromptResult::Pending)), (1, 49));
    let pending = replies.iter().find(|reply| reply.result() == PromptResult::Pending).expect("49 of them");
    assert_eq!((pending.until_unix_ms, &pending.prompt), (NOON_MS + 110_000, &None));
    // The attempt that opened it hears of the same one, as often as it asks (V-02).
    let mine = replies.iter().find_map(|reply| reply.prompt.clone()).expect("one is open");
    let again = opened(&lab, open(&ann, &mine.transaction_id, "push", NOON_MS + 5)).await;
    assert_eq!((again.result(), again.prompt), (PromptResult::Joined, Some(mine.clone())));
    let request = UserPromptsRequest { user_id: ann.user_id.clone(), method: "push".into(), now_unix_ms: NOON_MS };
    let listed = lab.services.commit.user_prompts(Request::new(request)).await.expect("listed").into_inner();
    assert_eq!(listed.prompts, std::slice::from_ref(&mine));
    // Past its time it is expired, and the next may be asked.
    let over = NOON_MS + 110_000;
    let next = opened(&lab, open(&ann, "next", "push", over)).await;
    assert_eq!(next.result(), PromptResult::Opened);
    assert_eq!(states(&lab, &mine.prompt_id).await.outcome, "expired");
    let request = GetPromptsRequest { transaction_ids: vec!["next".into()], ..GetPromptsRequest::default() };
    let found = lab.services.commit.get_prompts(Request::new(request)).await.expect("found").into_inner();
    assert_eq!(found.prompts.len(), 1);
}

pub async fn a_prompt_is_answered_once_and_the_same_answer_hears_the_same(lab: Fixture) {
    // V-21, B-84: two devices answer differently, each many times, at one moment
    let ann = lab.enrolled("ann").await;
    let id = prompt_id(&lab, &ann, "t1", NOON_MS).await;
    let answers = (0..40).map(|number| {
        let outcome = if number % 2 == 0 { "approved" } else { "denied" };
        resolved(&lab, answer(&id, outcome, NOON_MS + 1_000))
    });
    let replies = futures::future::join_all(answers).await;
    let outcome = states(&lab, &id).await.outcome;
    for (number, reply) in replies.iter().enumerate() {
        let mine = if number % 2 == 0 { "approved" } else { "denied" };
        assert_eq!(reply.taken, mine == outcome, "{number}");
        assert_eq!(reply.prompt.as_ref().expect("as it stands").outcome, outcome);
    }
    let other = ResolvePromptRequest { answer_digest: b"another".to_vec(), ..answer(&id, &outcome, NOON_MS + 1_000) };
    assert!(!resolved(&lab, other).await.taken, "the same outcome by another answer");
    let bob = lab.enrolled("bob").await;
    let late = prompt_id(&lab, &bob, "t2", NOON_MS).await;
    let reply = resolved(&lab, answer(&late, "approved", NOON_MS + 110_000)).await;
    assert!(!reply.taken);
    assert_eq!(reply.prompt.expect("as it stands").outcome, "expired");
    assert_eq!(allowed(&lab.services.commit, allow_by(&bob, "t2", &late, NOON_MS)).await, AllowResult::Refused);
    // A PIN that was asked for beside the answer (FV-02, FV-04) ends the prompt as well.
    for outcome in ["wrong_pin", "locked_out"] {
        let id = prompt_id(&lab, &lab.enrolled(outcome).await, outcome, NOON_MS).await;
        let ended = resolved(&lab, answer(&id, outcome, NOON_MS + 1_000)).await;
        assert!(ended.taken && ended.prompt.is_some_and(|prompt| prompt.outcome == outcome), "{outcome}");
    }
    for outcome in ["", "yes", "valid_code", "blocked"] {
        let request = Request::new(answer(&late, outcome, NOON_MS));
        let refused = lab.services.commit.resolve_prompt(request).await.expect_err("no outcome");
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{outcome}");
    }
}

pub async fn an_approval_lets_in_once(lab: Fixture) {
    // V-02, V-61: 200 Allows of one approval
    let (ann, bob) = (lab.enrolled("ann").await, lab.enrolled("bob").await);
    let commit = &lab.services.commit;
    let id = prompt_id(&lab, &ann, "t1", NOON_MS).await;
    assert_eq!(allowed(commit, allow_by(&ann, "t1", &id, NOON_MS)).await, AllowResult::Refused, "still open");
    resolved(&lab, answer(&id, "approved", NOON_MS + 1_000)).await;
    assert_eq!(allowed(commit, allow_by(&bob, "t1", &id, NOON_MS)).await, AllowResult::Refused);
    assert_eq!(allowed(commit, allow_by(&ann, "t2", &id, NOON_MS)).await, AllowResult::Refused);
    let copies = (0..200).map(|number| {
        let evaluation = format!("copy-{number}");
        allowed(commit, CommitAllowRequest { evaluation, ..allow_by(&ann, "t1", &id, NOON_MS + 2_000) })
    });
    let results = futures::future::join_all(copies).await;
    assert_eq!(results.iter().filter(|result| **result == AllowResult::Committed).count(), 1);
    assert_eq!(lab.events("authentication").await.len(), 1);
    lab.assert_chain_is_whole().await;
}

pub async fn after_a_refusal_it_is_quiet_and_after_three_for_nothing_longer(lab: Fixture) {
    // V-23, FV-24
    let ann = lab.enrolled("ann").await;
    let epoch = lab.login_user(&ann.user_id).await.epoch;
    let mut now_ms = NOON_MS;
    for number in 0..3 {
        let id = prompt_id(&lab, &ann, &format!("t{number}"), now_ms).await;
        resolved(&lab, answer(&id, "denied", now_ms + 1_000)).await;
        now_ms += 1_000;
        let quiet = if number < 2 { 60_000 } else { 15 * MINUTE_MS };
        let refused = opened(&lab, open(&ann, &format!("r{number}"), "push", now_ms)).await;
        assert_eq!((refused.result(), refused.until_unix_ms), (PromptResult::CoolingDown, now_ms + quiet));
        now_ms += quiet;
    }
    assert_eq!(opened(&lab, open(&ann, "later", "push", now_ms)).await.result(), PromptResult::Opened);
    assert_eq!(lab.login_user(&ann.user_id).await.epoch, epoch + 3, "V-52: a no ends what was remembered");
    // A code still works meanwhile.
    assert_eq!(allowed(&lab.services.commit, ann.allow("code", 200)).await, AllowResult::Committed);
}

pub async fn what_a_device_asks_anew_has_rung_as_well(lab: Fixture) {
    // V-23, R-32: a new request every few seconds, whoever says that it takes the place of the one before
    for by in ["another request", ""] {
        let name = format!("user{}", by.len());
        let user = lab.enrolled(&name).await;
        let mut now_ms = NOON_MS;
        for number in 0..3 {
            let id = prompt_id(&lab, &user, &format!("{name}-{number}"), now_ms).await;
            now_ms += 4_000;
            resolved(&lab, ResolvePromptRequest { answered_by: by.into(), ..answer(&id, "withdrawn", now_ms) }).await;
        }
        let refused = opened(&lab, open(&user, &format!("{name}-next"), "push", now_ms)).await;
        let until_ms = now_ms + 15 * MINUTE_MS;
        assert_eq!((refused.result(), refused.until_unix_ms), (PromptResult::CoolingDown, until_ms), "by {by:?}");
    }
}

pub async fn who_says_not_me_is_blocked_and_it_is_told_in_one_transaction(lab: Fixture) {
    // FV-25, FV-26, FV-27
    let ann = lab.enrolled("ann").await;
    lab.mails().await;
    let epoch = lab.login_user(&ann.user_id).await.epoch;
    let id = prompt_id(&lab, &ann, "t1", NOON_MS).await;
    let until = NOON_MS + 90 * 24 * 60 * MINUTE_MS;
    let fraud = ResolvePromptRequest { block_until_unix_ms: until, ..answer(&id, "fraud", NOON_MS + 1_000) };
    assert!(resolved(&lab, fraud.clone()).await.taken);
    assert!(resolved(&lab, fraud).await.taken, "the same again");
    let facts = lab.facts(&ann.user_id).await;
    let user = facts.user.expect("there");
    assert_eq!((user.blocked_until_unix_ms, user.epoch), (until, epoch + 1));
    assert_eq!(facts.code_factors.len(), 0, "nobody needs the seeds of somebody who is blocked");
    let kinds: Vec<(String, usize)> = lab.mails().await.into_iter().map(|mail| (mail.kind, mail.to.len())).collect();
    assert_eq!(kinds, [("fraud".to_owned(), 0), ("blocked".to_owned(), 1)]);
    let events = lab.events("user.blocked").await;
    assert_eq!((events.len(), events[0].user_id.as_str()), (1, ann.user_id.as_str()));
    assert_eq!(allowed(&lab.services.commit, ann.allow("t2", 200)).await, AllowResult::Refused);
    let request = Request::new(open(&ann, "t3", "push", NOON_MS + 10 * MINUTE_MS));
    let refused = lab.services.commit.open_prompt(request).await.expect_err("a blocked user is asked nothing");
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    let bob = lab.enrolled("bob").await;
    let id = prompt_id(&lab, &bob, "b1", NOON_MS).await;
    resolved(&lab, answer(&id, "fraud", NOON_MS + 1_000)).await;
    assert_eq!(lab.login_user(&bob.user_id).await.blocked_until_unix_ms, 0, "the settings do not block");
    assert_eq!(lab.events("user.fraud_reported").await.len(), 1);
}

pub async fn calls_and_messages_have_caps(lab: Fixture) {
    // FV-24, V-18
    let ann = lab.enrolled("ann").await;
    let call = |number: i64| {
        let now_ms = NOON_MS + number * MINUTE_MS;
        OpenPromptRequest { calls_per_hour: 2, ..open(&ann, &format!("t{number}"), "call", now_ms) }
    };
    for number in 0..2 {
        let reply = opened(&lab, call(number)).await;
        assert_eq!(reply.result(), PromptResult::Opened);
        let id = reply.prompt.expect("as it stands").prompt_id;
        resolved(&lab, answer(&id, "busy", NOON_MS + number * MINUTE_MS + 1_000)).await;
    }
    let refused = opened(&lab, call(2)).await;
    assert_eq!((refused.result(), refused.until_unix_ms), (PromptResult::RateLimited, NOON_MS + 60 * MINUTE_MS));
    // All who share a prefix share its cap.
    let hour_ms = NOON_MS - NOON_MS.rem_euclid(60 * MINUTE_MS) + 60 * MINUTE_MS;
    for number in 0..4 {
        let who = lab.enrolled(&format!("user{number}")).await;
        let request = OpenPromptRequest {
            phone_prefix: "+4930123".into(),
            per_prefix_and_hour: 3,
            messages_per_day: 100,
            ..open(&who, &format!("p{number}"), "call", NOON_MS)
        };
        let reply = opened(&lab, request).await;
        match number {
            0..3 => assert_eq!(reply.result(), PromptResult::Opened, "{number}"),
            _ => assert_eq!((reply.result(), reply.until_unix_ms), (PromptResult::RateLimited, hour_ms)),
        }
    }
}

pub async fn what_a_call_has_come_to_changes_from_what_was_read(lab: Fixture) {
    // V-74
    let ann = lab.enrolled("ann").await;
    let id = prompt_id(&lab, &ann, "t1", NOON_MS).await;
    let update = |revision: u64, state: &str| UpdatePromptRequest {
        prompt_id: id.clone(),
        expected_revision: revision,
        state_json: state.into(),
    };
    let updates = (0..20)
        .map(|number| lab.services.commit.update_prompt(Request::new(update(1, &format!("{{\"n\":{number}}}")))));
    let replies = futures::future::join_all(updates).await;
    let updated: Vec<Prompt> = replies
        .into_iter()
        .map(|reply| reply.expect("the store answers").into_inner())
        .filter_map(|reply| reply.prompt.filter(|_| reply.updated))
        .collect();
    assert_eq!((updated.len(), updated[0].revision), (1, 2));
    let stands = states(&lab, &id).await;
    assert_eq!(stands.state_json, updated[0].state_json);
}
