//! Phones are woken by push services that do their work, and by some that do not (V-24, V-25).

use crate::phone::{WebPhone, settings};
use crate::prompts::World;
use domain::Reason;
use lab::phones::{BrowserSide, PushMood, PushService};
use proto::user_store::{Prompt, PushDevice};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use verification::{Accepted, SendFailure, Service};

const LONG_AGO_MS: i64 = 3_600_000;

struct Scene {
    world: World,
    node: Arc<Service>,
    service: PushService,
    browser: BrowserSide,
}

impl Scene {
    /// Ann's phone is connected and can be woken; its page was closed long ago.
    async fn new() -> Self {
        let world = World::new(settings(), &[]);
        let node = world.node().await;
        let service = PushService::start().await.expect("a push service");
        let browser = service.subscribe("ann");
        let phone = WebPhone { subscription: Some(browser.subscription()), ..WebPhone::new(1) };
        phone.connected(&world, &node).await;
        // The prompt that proved it.
        service.next().await.expect("woken");
        let scene = Self { world, node, service, browser };
        scene.change(|device| device.last_seen_unix_ms -= LONG_AGO_MS);
        scene
    }

    fn change(&self, change: impl FnOnce(&mut PushDevice)) {
        change(&mut self.world.store.lock().devices.last_mut().expect("a device").1);
    }

    fn devices(&self) -> Vec<PushDevice> {
        self.world.store.lock().devices.iter().map(|(_, device)| device.clone()).collect()
    }

    async fn push(&self) -> Result<Accepted, SendFailure> {
        let prompt = self.world.prompt("push");
        self.push_prompt(&prompt).await
    }

    async fn push_prompt(&self, prompt: &Prompt) -> Result<Accepted, SendFailure> {
        self.node.carriers().push(prompt, &self.devices()).await
    }
}

fn reason(result: Result<Accepted, SendFailure>) -> Reason {
    result.expect_err("nobody was told").reason()
}

#[tokio::test]
async fn a_message_names_nobody_and_is_readable_by_the_phone_alone() {
    // V-24, RFC 8030, RFC 8291, RFC 8292
    let scene = Scene::new().await;
    let prompt = scene.world.prompt("push");
    assert_eq!(scene.push_prompt(&prompt).await.expect("told").provider, "web_push");
    let pushed = scene.service.next().await.expect("delivered");
    assert!((100..=110).contains(&pushed.ttl), "what is left of the prompt: {}", pushed.ttl);
    assert_eq!((pushed.urgency.as_str(), pushed.topic.len()), ("high", 32));
    assert!(scene.service.subscribe("eve").open(&pushed.body).is_err(), "another browser reads it");
    let plain = scene.browser.open(&pushed.body).expect("for this browser");
    let message: Value = serde_json::from_slice(&plain).expect("declarative JSON");
    assert_eq!(message["web_push"], 8030);
    assert_eq!(message["notification"]["title"], "Sign-in request");
    let navigate = format!("https://mfa.example.com/phone?prompt={}", prompt.prompt_id);
    assert_eq!(message["notification"]["navigate"], navigate);
    let text = String::from_utf8(plain).expect("UTF-8").replace(&navigate, "");
    for secret in ["ann", "VPN", "corp", "vpn", "transaction-of"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    // One topic a user: a newer prompt takes the place of an older one.
    scene.push().await.expect("told");
    assert_eq!(scene.service.next().await.expect("delivered").topic, pushed.topic);
    let german = Prompt { language: "de-AT".into(), ..scene.world.prompt("push") };
    scene.push_prompt(&german).await.expect("told");
    let plain = scene.browser.open(&scene.service.next().await.expect("delivered").body).expect("for this browser");
    assert!(String::from_utf8_lossy(&plain).contains("Anmeldung bestätigen"));
}

#[tokio::test]
async fn a_subscription_that_is_over_is_forgotten_and_the_next_method_is_taken() {
    // V-25, FM-06
    for status in [404, 410] {
        let scene = Scene::new().await;
        scene.service.set_mood(PushMood::Refuse(status));
        assert_eq!(reason(scene.push().await), Reason::Unreachable);
        assert!(scene.devices()[0].subscription.is_none());
        let asked = scene.service.requests();
        assert_eq!(reason(scene.push().await), Reason::Unreachable);
        assert_eq!(scene.service.requests(), asked, "it is not asked again");
    }
}

#[tokio::test]
async fn a_push_service_that_is_busy_is_asked_again_and_one_that_refuses_is_not() {
    let scene = Scene::new().await;
    for status in [429, 503] {
        scene.service.set_mood(PushMood::RefuseOnce(status, 0));
        scene.push().await.expect("told at the second try");
        scene.service.next().await.expect("delivered");
    }
    for (status, tries) in [(413, 1), (403, 1), (400, 1), (500, 3)] {
        scene.service.set_mood(PushMood::Refuse(status));
        let before = scene.service.requests();
        assert_eq!(reason(scene.push().await), Reason::ProviderError, "{status}");
        assert_eq!(scene.service.requests() - before, tries, "{status}");
    }
    scene.service.set_mood(PushMood::Drop);
    assert_eq!(reason(scene.push().await), Reason::ProviderError);
    assert!(scene.devices()[0].subscription.is_some(), "none of that ends a subscription");
    // It says when to come back, and by then the prompt is over.
    scene.service.set_mood(PushMood::RefuseOnce(429, 3_600));
    let before = scene.service.requests();
    assert_eq!(reason(scene.push().await), Reason::ProviderError);
    assert_eq!(scene.service.requests() - before, 1);
    scene.service.set_mood(PushMood::Double);
    scene.push().await.expect("told");
    scene.service.set_mood(PushMood::Lie);
    scene.push().await.expect("told, as far as anybody can know");
}

#[tokio::test]
async fn one_phone_that_was_told_is_enough_and_a_slow_push_service_holds_up_nobody() {
    let scene = Scene::new().await;
    let slow = PushService::start().await.expect("a push service");
    slow.set_mood(PushMood::Delay(60_000));
    let phone = WebPhone { subscription: Some(slow.subscribe("second").subscription()), ..WebPhone::new(2) };
    // The page is open while it is activated, so that it counts as told at once or after the limit.
    let begun = std::time::Instant::now();
    scene.world.store.lock().devices.swap(0, 0);
    let devices = {
        let first = scene.devices().remove(0);
        let subscription = domain::Secret::from(phone.subscription.expect("one").to_string());
        let second = PushDevice {
            device_id: "slow".into(),
            subscription: Some(subscription.into()),
            last_seen_unix_ms: first.last_seen_unix_ms,
            ..first.clone()
        };
        vec![second, first]
    };
    let prompt = scene.world.prompt("push");
    scene.node.carriers().push(&prompt, &devices).await.expect("told");
    assert!(begun.elapsed() < Duration::from_secs(5));
    scene.service.next().await.expect("delivered");
}

#[tokio::test]
async fn an_open_page_needs_no_push_service_and_a_closed_one_without_cannot_be_reached() {
    let scene = Scene::new().await;
    scene.change(|device| {
        device.subscription = None;
        device.last_seen_unix_ms += LONG_AGO_MS;
    });
    scene.push().await.expect("the page asks by itself");
    scene.change(|device| device.last_seen_unix_ms -= LONG_AGO_MS);
    assert_eq!(reason(scene.push().await), Reason::Unreachable);
    assert_eq!(reason(scene.node.carriers().push(&scene.world.prompt("push"), &[]).await), Reason::Unreachable);
    let over = Prompt { expires_unix_ms: 1, ..scene.world.prompt("push") };
    assert_eq!(reason(scene.push_prompt(&over).await), Reason::NoAnswer, "late is dropped, not sent");
    scene.world.store.change_settings(|settings| {
        settings.push.web = false;
        settings.push.pi = false;
    });
    let off = scene.world.node().await.carriers().push(&scene.world.prompt("push"), &scene.devices()).await;
    assert!(matches!(off, Err(SendFailure::NoProvider)));
}

#[tokio::test]
async fn no_request_goes_to_a_host_that_is_not_listed() {
    // The address comes from the browser
    let scene = Scene::new().await;
    scene.world.store.change_settings(|settings| settings.push.hosts = vec!["push.example.com".into()]);
    let node = scene.world.node().await;
    let before = scene.service.requests();
    let refused = node.carriers().push(&scene.world.prompt("push"), &scene.devices()).await;
    assert_eq!(reason(refused), Reason::Unreachable);
    assert_eq!(scene.service.requests(), before);
    assert!(scene.service.is_quiet().await);
}

#[tokio::test]
async fn a_page_changes_and_takes_away_its_subscription() {
    let scene = Scene::new().await;
    let phone = WebPhone { device_id: scene.devices()[0].device_id.clone(), ..WebPhone::new(1) };
    let moved = scene.service.subscribe("moved");
    assert_eq!(phone.update(&scene.node, &moved.subscription().to_string()).await, "");
    scene.push().await.expect("told");
    let pushed = scene.service.next().await.expect("delivered");
    assert_eq!(pushed.path, "/push/moved");
    assert!(moved.open(&pushed.body).is_ok());
    // Elsewhere is nowhere: it polls only.
    let elsewhere = json!({ "endpoint": "https://evil.example/1", "keys": moved.subscription()["keys"] });
    assert_eq!(phone.update(&scene.node, &elsewhere.to_string()).await, "");
    assert!(scene.devices()[0].subscription.is_none());
    assert_eq!(phone.update(&scene.node, &moved.subscription().to_string()).await, "");
    assert_eq!(phone.update(&scene.node, "").await, "");
    assert!(scene.devices()[0].subscription.is_none());
    let stranger = WebPhone { device_id: phone.device_id.clone(), ..WebPhone::new(2) };
    assert_eq!(stranger.update(&scene.node, "").await, "not_enrolled");
}
