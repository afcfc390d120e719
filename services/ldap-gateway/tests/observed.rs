//! What the gateway leaves behind: the line of an attempt, its spans, the metrics. A program of its own, because log and meters
//! belong to the process.

#[allow(dead_code)] // the other tests use the rest of it
#[path = "gateway/support.rs"]
mod support;

use anyhow::Result;
use lab::{COMPANY_BASE, password_of};
use ldap_wire::Scope;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};
use std::collections::{BTreeMap, BTreeSet};
use support::{Lab, Wanted, capture, client, until};

const ANN: &str = "ann.archer";

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_is_one_line_one_trace_and_counted_once() -> Result<()> {
    let exporter = InMemoryMetricExporter::default();
    let meters = SdkMeterProvider::builder().with_reader(PeriodicReader::builder(exporter.clone()).build()).build();
    opentelemetry::global::set_meter_provider(meters.clone());

    let lab = Lab::start(Wanted { client: client("observed"), ..Wanted::default() }).await?;
    lab.gateway.verification.enrol(ANN, &["718293"]);
    let mut wire = lab.connect().await?;
    assert_eq!(wire.bind(&format!("{ANN}@acme.example"), &format!("{},718293", password_of(ANN))).await?, 0);
    assert_eq!(wire.search_code(COMPANY_BASE, Scope::Base).await?, (0, 1));
    for password in ["wrong,123456".to_owned(), format!("{},718293", password_of(ANN)), password_of(ANN)] {
        assert_eq!(lab.connect().await?.bind(ANN, &password).await?, 49);
    }
    lab.gateway.connect_plain_from([127, 0, 0, 9]).await?.expect_silent_end().await?;
    until("four lines", || capture::authentications("observed").len() == 4).await?;
    let lines = capture::authentications("observed");
    for (field, value) in [
        ("service", "ldap-gateway"),
        ("protocol", "ldap"),
        ("client_ip", "127.0.0.1"),
        ("user", ANN),
        ("name_form", "upn"),
        ("result", "success"),
        ("reason", "valid_code"),
        ("first.result", "ok"),
        ("first.via", "127.0.0.1"),
        ("second.method", "code"),
        ("assurance", "code"),
        ("source", "live"),
    ] {
        assert_eq!(lines[0][field], value, "{field} of {}", lines[0]);
    }
    let id = lines[0]["request_id"].as_str().expect("an id").to_owned();
    let reasons: Vec<_> = lines.iter().map(|line| line["reason"].as_str().unwrap_or("-")).collect();
    assert_eq!(reasons, ["valid_code", "bad_password", "reused_code", "wrong_code"]);

    // Every span of the attempt hangs below its own.
    let log = capture::text();
    let events = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let opened: BTreeSet<(String, bool)> = events
        .filter(|event| event["fields"]["message"] == "new")
        .filter_map(|event| {
            let parents = event["spans"].as_array().cloned().unwrap_or_default();
            let below = parents.iter().any(|span| span["twinlock.request_id"] == id.as_str());
            let own = event["span"]["twinlock.request_id"] == id.as_str();
            (below || own).then(|| (event["span"]["name"].as_str().unwrap_or("-").to_owned(), below && !own))
        })
        .collect();
    let expected = [("directory.bind", true), ("directory.resolve", true), ("ldap.bind", false)];
    assert_eq!(opened, expected.map(|(name, below)| (name.to_owned(), below)).into());

    meters.force_flush()?;
    let seen = collected(&exporter);
    for (name, labels) in [
        ("twinlock_auth_attempts_total", &["client", "method", "protocol", "reason", "result"][..]),
        ("twinlock_auth_duration_seconds", &["client", "phase", "result"]),
        ("twinlock_auth_in_flight", &["method", "protocol"]),
        ("twinlock_ldap_connections", &["client"]),
        ("twinlock_ldap_connections_refused_total", &["cause"]),
        ("twinlock_ldap_operations_total", &["client", "operation", "result_code"]),
        ("twinlock_ldap_upstream_binds_total", &["client", "operation", "result_code"]),
        ("twinlock_password_ok_factor_failed_total", &["client"]),
        ("twinlock_settings_revision", &[]),
        ("twinlock_upstream_duration_seconds", &["kind", "name"]),
        ("twinlock_upstream_up", &["kind", "name"]),
    ] {
        let points = seen.get(name).unwrap_or_else(|| panic!("{name} is missing among {:?}", seen.keys()));
        for point in points {
            assert_eq!(point.keys().map(String::as_str).collect::<Vec<_>>(), labels, "{name}");
        }
    }
    let attempts = seen["twinlock_auth_attempts_total"].iter();
    let counted: BTreeSet<_> = attempts.map(|it| (it["method"].clone(), it["reason"].clone())).collect();
    let expected = [("code", "valid_code"), ("none", "bad_password"), ("code", "reused_code"), ("none", "wrong_code")];
    assert_eq!(counted, expected.map(|(method, reason)| (method.to_owned(), reason.to_owned())).into());
    let values = seen.values().flatten().flat_map(BTreeMap::values);
    for value in values {
        assert!(!value.contains(ANN) && !value.contains("718293"), "{value} is a label");
    }
    Ok(())
}

/// Every metric with the labels of each of its points.
fn collected(exporter: &InMemoryMetricExporter) -> BTreeMap<String, Vec<BTreeMap<String, String>>> {
    let mut seen: BTreeMap<String, Vec<BTreeMap<String, String>>> = BTreeMap::new();
    for resource in exporter.get_finished_metrics().expect("they were exported") {
        for metric in resource.scope_metrics().flat_map(|scope| scope.metrics()) {
            seen.entry(metric.name().to_owned()).or_default().extend(points(metric.data()));
        }
    }
    seen
}

fn points(data: &AggregatedMetrics) -> Vec<BTreeMap<String, String>> {
    fn labels<'a>(attributes: impl Iterator<Item = &'a opentelemetry::KeyValue>) -> BTreeMap<String, String> {
        attributes.map(|label| (label.key.to_string(), label.value.to_string())).collect()
    }
    fn of<T>(data: &MetricData<T>) -> Vec<BTreeMap<String, String>> {
        match data {
            MetricData::Gauge(gauge) => gauge.data_points().map(|point| labels(point.attributes())).collect(),
            MetricData::Sum(sum) => sum.data_points().map(|point| labels(point.attributes())).collect(),
            MetricData::Histogram(histogram) => {
                histogram.data_points().map(|point| labels(point.attributes())).collect()
            }
            MetricData::ExponentialHistogram(histogram) => {
                histogram.data_points().map(|point| labels(point.attributes())).collect()
            }
        }
    }
    match data {
        AggregatedMetrics::F64(data) => of(data),
        AggregatedMetrics::U64(data) => of(data),
        AggregatedMetrics::I64(data) => of(data),
    }
}
