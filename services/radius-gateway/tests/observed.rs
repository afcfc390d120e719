//! What the gateway leaves behind: one line an attempt, spans, metrics, and no secret in any of them. A program of its own,
//! because log and meters belong to the process.

mod support;

use opentelemetry::KeyValue;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};
use radius_wire::Code;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use support::*;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::{Layer, Registry};

type Fields = BTreeMap<String, String>;

/// Everything that was logged or traced, as text.
#[derive(Clone, Default)]
struct Recorder {
    events: Arc<Mutex<Vec<Fields>>>,
    spans: Arc<Mutex<Vec<(&'static str, Fields)>>>,
}

struct Reader<'a>(&'a mut Fields);

impl Visit for Reader<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

impl<S: tracing::Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::new();
        event.record(&mut Reader(&mut fields));
        self.events.lock().expect("no panic").push(fields);
    }
    fn on_new_span(&self, attributes: &tracing::span::Attributes<'_>, _: &tracing::span::Id, _: Context<'_, S>) {
        let mut fields = Fields::new();
        attributes.record(&mut Reader(&mut fields));
        self.spans.lock().expect("no panic").push((attributes.metadata().name(), fields));
    }
}

impl Recorder {
    fn attempts(&self) -> Vec<Fields> {
        let is_attempt = |fields: &&Fields| fields.get("event").is_some_and(|event| event == "authentication");
        self.events.lock().expect("no panic").iter().filter(is_attempt).cloned().collect()
    }
}

fn joined<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> String {
    let mut pairs: Vec<_> = attributes.map(|pair| format!("{}={}", pair.key, pair.value)).collect();
    pairs.sort();
    pairs.join(" ")
}

#[tokio::test]
async fn an_attempt_is_one_line_and_one_span_a_packet_and_no_secret_is_in_any_of_it() {
    // V-33.
    let recorder = Recorder::default();
    tracing::subscriber::set_global_default(Registry::default().with(recorder.clone())).expect("nobody else logs");
    let exporter = InMemoryMetricExporter::default();
    let meters = SdkMeterProvider::builder().with_reader(PeriodicReader::builder(exporter.clone()).build()).build();
    opentelemetry::global::set_meter_provider(meters.clone());

    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut nas = Nas::new(VPN, gateway.address, SECRET).await;
    let station = attribute(radius_wire::AttributeType::CALLING_STATION_ID, b"203.0.113.9\r\nlevel=error");
    let first = nas.with(&[user_name("ANN"), station], Some(ANN));
    let challenge = nas.ask(&first).await;
    assert_eq!(nas.ask(&first).await, challenge);
    let wrong = nas.answer_to("ANN", &challenge.state(), "000000");
    let challenge = nas.ask(&wrong).await;
    assert_eq!(recorder.attempts(), Vec::<Fields>::new(), "the attempt goes on");
    let right = nas.answer_to("ANN", &challenge.state(), CODE);
    assert_eq!(nas.ask(&right).await.code(), Code::AccessAccept);
    until("the line is written", async || recorder.attempts().len() == 1).await;
    let line = &recorder.attempts()[0];
    for (field, value) in [
        ("service", "radius-gateway"),
        ("protocol", "radius"),
        ("client", "vpn"),
        ("client_ip", VPN),
        ("user", "ann"),
        ("name_form", "bare"),
        ("result", "success"),
        ("reason", "valid_code"),
        ("first.result", "ok"),
        ("second.method", "code"),
        ("assurance", "code"),
        ("source", "live"),
        ("rounds", "3"),
        ("reply", "Access-Accept"),
    ] {
        assert_eq!(line.get(field).map(String::as_str), Some(value), "{field} of {line:?}");
    }

    let refused = nas.question("ann", "a-wrong-password-9f31");
    let answer = nas.ask(&refused).await;
    until("its line is written", async || recorder.attempts().len() == 2).await;
    let line = &recorder.attempts()[1];
    assert_eq!(
        (line["result"].as_str(), line["reason"].as_str(), line["first.result"].as_str()),
        ("failed", "bad_password", "bad_password")
    );
    assert!(answer.message().ends_with(&line["ref"]), "the person can read out what the log says");
    let mut stranger = Nas::new(STRANGER, gateway.address, SECRET).await;
    for _ in 0..5 {
        let question = stranger.question("ann", ANN);
        stranger.send(&question.octets).await;
    }
    stranger.hears_nothing().await;
    let events = recorder.events.lock().expect("no panic").clone();
    let dropped: Vec<_> =
        events.iter().filter(|fields| fields.get("drop").is_some_and(|drop| drop == "unknown_client")).collect();
    assert_eq!(dropped.len(), 1, "rate limited");
    assert_eq!((dropped[0]["event"].as_str(), dropped[0]["client_ip"].as_str()), ("packet_dropped", STRANGER));

    let spans = recorder.spans.lock().expect("no panic").clone();
    let named = |name: &str| spans.iter().filter(|(found, _)| *found == name).count();
    assert_eq!((named("radius.request"), named("directory.bind")), (4, 2), "copies have none");
    let (_, request) = spans.iter().find(|(name, _)| *name == "radius.request").expect("one");
    assert_eq!((request["otel.kind"].as_str(), request["twinlock.client"].as_str()), ("server", "vpn"));

    // The subscriber here takes every level, so nothing could hide at DEBUG.
    let everything = format!("{events:?} {spans:?}");
    for secret in [ANN, "a-wrong-password-9f31", CODE, "000000", SECRET, "query-password-6f2a", "\r\n"] {
        assert!(!everything.contains(secret), "{secret:?}");
    }

    // R-06, B-29: so many Proxy-States that the challenge does not fit.
    let mark = attribute(radius_wire::AttributeType::PROXY_STATE, &[9; 253]);
    let rest = attribute(radius_wire::AttributeType::PROXY_STATE, &[9; 150]);
    let question = nas.with(&[&[user_name("ann")][..], &[mark; 15], &[rest]].concat(), Some(ANN));
    assert_eq!(nas.ask(&question).await.code(), Code::AccessReject);
    let alarms = recorder.events.lock().expect("no panic").clone();
    assert!(alarms.iter().any(|fields| fields.get("event").is_some_and(|event| event == "reply_not_written")));

    meters.force_flush().expect("it exports");
    let metrics = exporter.get_finished_metrics().expect("metrics");
    let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut signing = BTreeSet::new();
    for metric in metrics.iter().flat_map(|export| export.scope_metrics()).flat_map(|scope| scope.metrics()) {
        if let AggregatedMetrics::U64(MetricData::Sum(sum)) = metric.data() {
            for point in sum.data_points() {
                labels.entry(metric.name().to_owned()).or_default().insert(joined(point.attributes()));
            }
        }
        if metric.name() == "twinlock_radius_message_authenticator" {
            let AggregatedMetrics::U64(MetricData::Gauge(gauge)) = metric.data() else { panic!("no gauge") };
            signing.extend(gauge.data_points().map(|it| format!("{} {}", joined(it.attributes()), it.value())));
        }
    }
    let attempts = &labels["twinlock_auth_attempts_total"];
    for attempt in [
        "client=vpn method=code protocol=radius reason=valid_code result=success",
        "client=vpn method=code protocol=radius reason=code_asked result=challenge",
        "client=vpn method=none protocol=radius reason=bad_password result=failed",
    ] {
        assert!(attempts.contains(attempt), "{attempt} of {attempts:?}");
    }
    assert_eq!(labels["twinlock_radius_unwritten_replies_total"], BTreeSet::from(["client=vpn".to_owned()]));
    //
    for state in [
        "client=vpn state=learning 0",
        "client=vpn state=demanded 1",
        "client=auto state=learning 1",
        "client=legacy state=not_demanded 1",
    ] {
        assert!(signing.contains(state), "{state} of {signing:?}");
    }
    let packets = &labels["twinlock_radius_packets_total"];
    for packet in [
        "client=vpn code=access_request drop= outcome=ok",
        "client=vpn code=access_request drop= outcome=duplicate",
        "client= code=access_request drop=unknown_client outcome=dropped",
    ] {
        assert!(packets.contains(packet), "{packet} of {packets:?}");
    }
}
