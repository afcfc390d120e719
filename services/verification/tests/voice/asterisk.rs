//! Calls by an Asterisk of one's own.

use super::prompts::World;
use super::{Ann, call};
use lab::phones::ari::{Channel, Mood, Pbx};
use proto::user_store::Prompt;
use proto::verification::TestProviderRequest;
use proto::verification::enrolment_server::Enrolment;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use verification::Service;

struct Stage {
    pbx: Pbx,
    world: World,
    node: Arc<Service>,
}

fn provider(name: &str, base_url: &str) -> Value {
    json!({
        "name": name, "channel": "voice", "secret": "keep", "timeout_seconds": 1,
        "adapter": {
            "kind": "ari", "base_url": base_url, "user": "twinlock", "application": "twinlock",
            "endpoint": "PJSIP/{phone}@trunk", "caller": "\"Sign-in\" <30>",
        },
    })
}

async fn stage_with(more: Value) -> Stage {
    let pbx = Pbx::start("twinlock", "pbx password").await.expect("a PBX");
    let mut settings = json!({ "verification": { "country": "DE" }, "provider": [provider("pbx", &pbx.base_url)] });
    settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let world = World::new(settings, &[("provider.pbx.secret", "pbx password")]);
    let node = world.node().await;
    Stage { pbx, world, node }
}

impl Stage {
    async fn ring(&self, ann: Ann) -> (Prompt, Channel) {
        let prompt = self.world.prompt("call");
        assert_eq!(call(&self.node, &prompt, ann).await.expect("taken").provider, "pbx");
        (prompt, self.pbx.next_call().await)
    }

    /// Picks up and listens to the end of the question.
    async fn pick_up(&self, channel: &Channel, last: &str) {
        self.pbx.answer(channel);
        assert!(self.pbx.hears(&format!("sound:twinlock/{last} en")).await, "{:?}", self.pbx.heard());
    }

    async fn ends(&self, prompt: &Prompt) -> String {
        self.world.outcome(&prompt.prompt_id).await.outcome
    }
}

/// Lets time pass for everybody in this program, second by second, until something is so; a minute at most.
async fn passing(so: impl Fn() -> bool) -> bool {
    for _ in 0..60 {
        if so() {
            return true;
        }
        // What is under way to the other side gets there first.
        tokio::time::sleep(Duration::from_millis(20)).await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(1)).await;
        tokio::time::resume();
    }
    false
}

#[tokio::test]
async fn a_person_who_presses_the_pound_key_has_confirmed() {
    // FV-02, V-19
    let stage = stage_with(json!({})).await;
    let (prompt, channel) = stage.ring(Ann::default()).await;
    assert_eq!((channel.endpoint.as_str(), channel.timeout.as_str()), ("PJSIP/+4930901820@trunk", "30"));
    assert_eq!(channel.caller, "\"Sign-in\" <30>");
    stage.pick_up(&channel, "fraud-hint").await;
    stage.pbx.press(&channel, "#");
    assert_eq!(stage.ends(&prompt).await, "approved");
    assert!(stage.pbx.is_over(&channel).await);
    let heard = ["greeting", "fraud-hint", "success"].map(|slot| format!("sound:twinlock/{slot} en"));
    assert_eq!(stage.pbx.heard(), heard);
    let after = stage.world.store.read(&prompt.prompt_id);
    assert_eq!((after.assurance.as_str(), after.answered_by.as_str()), ("phone", "•••• 1820"));
}

#[tokio::test]
async fn a_pin_is_typed_key_by_key_and_stops_the_recording() {
    // FV-02, FV-20
    let stage = stage_with(json!({})).await;
    stage.pbx.hold_playbacks();
    let (prompt, channel) = stage.ring(Ann { pin: true, ..Ann::default() }).await;
    stage.pick_up(&channel, "greeting-pin").await;
    stage.pbx.press(&channel, "1111#");
    assert!(stage.pbx.hears("sound:twinlock/retry-pin en").await, "{:?}", stage.pbx.heard());
    stage.pbx.press(&channel, "4711#");
    assert_eq!(stage.ends(&prompt).await, "approved");
    assert_eq!(stage.world.store.lock().pins_tried, 2);
    assert_eq!(stage.world.store.read(&prompt.prompt_id).pin_handle, "pin-2");
}

#[tokio::test]
async fn why_nobody_answered_is_told_by_the_cause() {
    // V-25, Q.850
    let stage = stage_with(json!({})).await;
    for (cause, outcome) in
        [(17, "busy"), (18, "no_answer"), (19, "no_answer"), (1, "unreachable"), (27, "unreachable")]
    {
        let (prompt, channel) = stage.ring(Ann::default()).await;
        stage.pbx.end(&channel, cause);
        assert_eq!(stage.ends(&prompt).await, outcome, "{cause}");
    }
    let (prompt, channel) = stage.ring(Ann::default()).await;
    stage.pick_up(&channel, "fraud-hint").await;
    stage.pbx.end(&channel, 16);
    assert_eq!(stage.ends(&prompt).await, "hung_up");
}

#[tokio::test]
async fn silence_is_asked_once_more_and_then_ends_the_call() {
    // V-19
    let stage = stage_with(json!({})).await;
    let (prompt, channel) = stage.ring(Ann::default()).await;
    stage.pick_up(&channel, "fraud-hint").await;
    let hints = || stage.pbx.heard().iter().filter(|heard| heard.contains("fraud-hint")).count();
    assert!(passing(|| hints() == 2).await, "the question never came again");
    assert!(passing(|| !stage.pbx.rings(&channel)).await, "the call never ended");
    assert_eq!(stage.ends(&prompt).await, "no_keys_pressed");
    assert!(stage.pbx.is_over(&channel).await);
}

#[tokio::test]
async fn fraud_is_reported_by_the_code_and_confirmed_by_one() {
    // FV-26
    let stage = stage_with(json!({})).await;
    let (prompt, channel) = stage.ring(Ann::default()).await;
    stage.pick_up(&channel, "fraud-hint").await;
    stage.pbx.press(&channel, "0#");
    assert!(stage.pbx.hears("sound:twinlock/fraud-confirm en").await);
    stage.pbx.press(&channel, "1");
    assert_eq!(stage.ends(&prompt).await, "fraud");
    assert!(stage.world.store.lock().blocked_until.is_some());
}

#[tokio::test]
async fn an_extension_is_dialled_and_the_language_is_the_persons() {
    // FV-14, FN-10
    let stage = stage_with(json!({ "text": [
        { "key": "voice-greeting", "language": "de", "text": "sound:custom/hallo" },
        { "key": "voice-fraud-hint", "language": "de", "text": "Words no PBX can speak." },
    ]}))
    .await;
    let (prompt, channel) = stage.ring(Ann { extension: "17", language: Some("de"), ..Ann::default() }).await;
    stage.pbx.answer(&channel);
    assert!(stage.pbx.hears("[17]").await);
    // What comes back while we dial is not the person.
    stage.pbx.press(&channel, "#");
    let asked = || stage.pbx.heard().iter().any(|heard| heard == "sound:twinlock/fraud-hint de");
    assert!(passing(asked).await, "{:?}", stage.pbx.heard());
    assert_eq!(stage.world.store.read(&prompt.prompt_id).outcome, "");
    let heard =
        ["sound:twinlock/extension-before de", "[17]", "sound:twinlock/extension-after de", "sound:custom/hallo de"];
    assert_eq!(stage.pbx.heard()[..4], heard);
    stage.pbx.press(&channel, "#");
    assert_eq!(stage.ends(&prompt).await, "approved");
}

#[tokio::test]
async fn events_that_come_twice_or_are_about_another_channel_change_nothing() {
    // V-18
    let stage = stage_with(json!({})).await;
    let (prompt, channel) = stage.ring(Ann { pin: true, ..Ann::default() }).await;
    stage.pbx.tell(&channel.application, "StasisStart", "another", json!({}));
    stage.pbx.tell(&channel.application, "ChannelDestroyed", "another", json!({ "cause": 17 }));
    stage.pbx.tell(&channel.application, "SomethingNew", &channel.id, json!({}));
    stage.pbx.set_mood(Mood::Double);
    stage.pick_up(&channel, "fraud-hint-pin").await;
    stage.pbx.tell(&channel.application, "ChannelDtmfReceived", "another", json!({ "digit": "9" }));
    stage.pbx.set_mood(Mood::Accept);
    stage.pbx.press(&channel, "4711#");
    assert_eq!(stage.ends(&prompt).await, "approved");
    assert_eq!(stage.world.store.lock().pins_tried, 1);
}

#[tokio::test]
async fn a_line_that_breaks_is_made_again_and_what_happened_meanwhile_asked_for() {
    // V-25
    let stage = stage_with(json!({})).await;
    let (prompt, channel) = stage.ring(Ann::default()).await;
    stage.pbx.lose_line(&channel);
    // Somebody picks up while we hear nothing.
    stage.pbx.answer(&channel);
    assert!(stage.pbx.is_heard(&channel).await);
    assert!(stage.pbx.hears("sound:twinlock/fraud-hint en").await);
    stage.pbx.press(&channel, "#");
    assert_eq!(stage.ends(&prompt).await, "approved");
    // And one whose channel is gone when we hear again.
    let (prompt, channel) = stage.ring(Ann::default()).await;
    stage.pbx.lose_line(&channel);
    stage.pbx.end(&channel, 17);
    assert_eq!(stage.ends(&prompt).await, "unreachable");
}

#[tokio::test]
async fn a_pbx_that_says_nothing_at_all_any_more_holds_no_call_for_good() {
    // V-25
    let stage = stage_with(json!({})).await;
    let (prompt, channel) = stage.ring(Ann::default()).await;
    stage.pbx.set_mood(Mood::Mute);
    stage.pbx.lose_line(&channel);
    assert!(passing(|| !stage.world.store.read(&prompt.prompt_id).outcome.is_empty()).await);
    assert_eq!(stage.world.store.read(&prompt.prompt_id).outcome, "unreachable");
    assert!(stage.pbx.is_over(&channel).await);
}

#[tokio::test]
async fn a_login_that_is_withdrawn_stops_the_ringing() {
    // V-23
    let stage = stage_with(json!({})).await;
    let (prompt, channel) = stage.ring(Ann::default()).await;
    stage.world.store.end(&prompt.prompt_id, "withdrawn");
    use service_kit::bus::Bus;
    // Told again until it is heard: the bus forgets what nobody listens to.
    let subject = proto::subjects::challenge_resolved(&prompt.prompt_id);
    for _ in 0..1000 {
        stage.world.bus.publish(&subject, bytes::Bytes::new()).await.expect("in this process");
        if !stage.pbx.rings(&channel) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!stage.pbx.rings(&channel));
    assert_eq!(stage.world.store.read(&prompt.prompt_id).outcome, "withdrawn");
    assert!(stage.pbx.heard().is_empty());
}

#[tokio::test]
async fn the_next_provider_rings_where_a_pbx_does_not() {
    // FN-07
    for mood in [Mood::Refuse(500), Mood::Deaf, Mood::Delay(3_000)] {
        let stage = stage_with(json!({ "voice": { "backup_phone": true } })).await;
        let second = Pbx::start("twinlock", "pbx password").await.expect("a PBX");
        let broken = provider("pbx", &stage.pbx.base_url);
        let providers = json!([broken, provider("second", &second.base_url)]);
        let secrets = [("provider.pbx.secret", "pbx password"), ("provider.second.secret", "pbx password")];
        let settings = json!({
            "verification": { "country": "DE" }, "provider": providers, "voice": { "backup_phone": true },
        });
        let world = World::new(settings, &secrets);
        let node = world.node().await;
        stage.pbx.set_mood(mood);
        let prompt = world.prompt("call");
        let ann = Ann { backup: true, ..Ann::default() };
        assert_eq!(call(&node, &prompt, ann).await.expect("taken").provider, "second", "{mood:?}");
        let first = second.next_call().await;
        stage.pbx.set_mood(Mood::Refuse(500));
        second.end(&first, 17);
        let backup = second.next_call().await;
        assert_eq!(backup.endpoint, "PJSIP/+4930901821@trunk");
        second.answer(&backup);
        assert!(second.hears("sound:twinlock/fraud-hint en").await);
        second.press(&backup, "#");
        assert_eq!(world.outcome(&prompt.prompt_id).await.outcome, "approved", "{mood:?}");
    }
}

#[tokio::test]
async fn an_administrator_hears_that_calls_work() {
    let stage = stage_with(json!({})).await;
    let request = TestProviderRequest {
        channel: "voice".into(),
        to: "+4930901820".into(),
        actor: "admin:uid=0".into(),
        ..TestProviderRequest::default()
    };
    let reply = stage.node.test_provider(tonic::Request::new(request)).await.expect("answered").into_inner();
    assert!(reply.accepted, "{:?}", reply.steps);
    let channel = stage.pbx.next_call().await;
    stage.pbx.answer(&channel);
    assert!(stage.pbx.hears("sound:twinlock/test en").await && stage.pbx.is_over(&channel).await);
}
