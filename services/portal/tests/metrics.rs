//! What `/metrics` shows of sign-ins. A program of its own, since meters belong to the whole process.

mod support;

use domain::settings::FirstEnrolment::Open;
use service_kit::config::{LogSection, ManagementSection, ShutdownSection, TelemetrySection, TlsSection};
use service_kit::{Sections, start};
use support::{PASSWORD, RIGHT_CODE, World, api_key};

#[tokio::test]
async fn sign_ins_and_refusals_are_counted_with_closed_labels() {
    let sections = Sections {
        log: &LogSection::default(),
        telemetry: &TelemetrySection::default(),
        tls: &TlsSection::default(),
        management: &ManagementSection { listen: ([127, 0, 0, 1], 0).into() },
        shutdown: &ShutdownSection::default(),
    };
    let process = start("portal", sections).await.expect("it starts");
    let world = World::new(Open).await;
    world.store.give_factor("ann");
    let mut browser = world.browser();
    browser.get("/").await;
    browser.sign_in("ann", "wrong").await;
    browser.sign_in("ann", PASSWORD).await;
    browser.submit("/code", &[("code", "000000")]).await;
    browser.submit("/code", &[("code", "000000")]).await;
    browser.submit("/code", &[("code", "000000")]).await;
    browser.sign_in("ann", PASSWORD).await;
    browser.submit("/code", &[("code", RIGHT_CODE)]).await;
    for _ in 0..40 {
        let request = world.http().get(world.url("/api/v1/users"));
        let _ = request.header("authorization", format!("Bearer {}", api_key("guess"))).send().await;
    }
    let page = format!("http://{}/metrics", process.management_address().expect("an address"));
    let text = world.http().get(page).send().await.expect("an answer").text().await.expect("text");
    let counted = |name: &str, labels: &[&str]| {
        let found = text.lines().find(|line| line.starts_with(name) && labels.iter().all(|label| line.contains(label)));
        let value = found.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse::<f64>().ok());
        value.unwrap_or_else(|| panic!("{name} {labels:?} in {text}"))
    };
    let attempts = "twinlock_auth_attempts_total";
    let common = [r#"client="portal""#, r#"protocol="portal""#];
    let of = |reason: &'static str, method: &'static str| [common[0], common[1], reason, method];
    assert_eq!(counted(attempts, &of(r#"reason="bad_password""#, r#"method="""#)), 1.0);
    assert_eq!(counted(attempts, &of(r#"reason="locked_out""#, r#"method="code""#)), 1.0);
    assert_eq!(counted(attempts, &of(r#"reason="valid_code""#, r#"method="code""#)), 1.0);
    assert_eq!(counted("twinlock_password_ok_factor_failed_total", &[r#"client="portal""#]), 1.0);
    assert_eq!(counted("twinlock_auth_duration_seconds_count", &[r#"phase="first""#, r#"result="failed""#]), 1.0);
    assert!(counted("twinlock_rate_limited_total", &[r#"kind="api_unknown_keys_per_source""#]) >= 1.0);
    assert!(counted("twinlock_settings_revision", &[]) >= 1.0);
    assert!(!text.contains("ann"), "no name is a label");
}
