//! Every metric this service feeds. Label values are closed sets: enums, and the clients and directories
//! of the settings.

use crate::listener::Drop;
use crate::settings::InUse;
use directory::Outcome;
use domain::{Method, Reason, ResultClass};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, UpDownCounter};
use radius_wire::Rule;
use std::time::Duration;

/// Bounds of login durations, in seconds.
const DURATIONS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0];

pub(crate) struct Metrics {
    attempts: Counter<u64>,
    duration: Histogram<f64>,
    in_flight: UpDownCounter<i64>,
    password_ok_factor_failed: Counter<u64>,
    fail_open: Counter<u64>,
    packets: Counter<u64>,
    access_requests: Counter<u64>,
    joined: Counter<u64>,
    unwritten: Counter<u64>,
    retry_interval: Histogram<f64>,
    secret_used: Counter<u64>,
    upstream_duration: Histogram<f64>,
    upstream_errors: Counter<u64>,
    settings_revision: Gauge<u64>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let meter = opentelemetry::global::meter("twinlock");
        let seconds = |name: &'static str| meter.f64_histogram(name).with_boundaries(DURATIONS.into()).build();
        Self {
            attempts: meter.u64_counter("twinlock_auth_attempts_total").build(),
            duration: seconds("twinlock_auth_duration_seconds"),
            in_flight: meter.i64_up_down_counter("twinlock_auth_in_flight").build(),
            password_ok_factor_failed: meter.u64_counter("twinlock_password_ok_factor_failed_total").build(),
            fail_open: meter.u64_counter("twinlock_fail_open_total").build(),
            packets: meter.u64_counter("twinlock_radius_packets_total").build(),
            access_requests: meter.u64_counter("twinlock_radius_access_requests_total").build(),
            joined: meter.u64_counter("twinlock_radius_joined_total").build(),
            unwritten: meter.u64_counter("twinlock_radius_unwritten_replies_total").build(),
            retry_interval: seconds("twinlock_radius_retry_interval_seconds"),
            secret_used: meter.u64_counter("twinlock_radius_secret_used_total").build(),
            upstream_duration: seconds("twinlock_upstream_duration_seconds"),
            upstream_errors: meter.u64_counter("twinlock_upstream_errors_total").build(),
            settings_revision: meter.u64_gauge("twinlock_settings_revision").build(),
        }
    }

    /// What the rule about Message-Authenticator has come to for each client: read whenever somebody looks.
    pub(crate) fn message_authenticators(states: impl Fn() -> Vec<(String, Rule)> + Send + Sync + 'static) {
        const STATES: [(Rule, &str); 3] =
            [(Rule::Yes, "demanded"), (Rule::Auto, "learning"), (Rule::No, "not_demanded")];
        opentelemetry::global::meter("twinlock")
            .u64_observable_gauge("twinlock_radius_message_authenticator")
            .with_callback(move |gauge| {
                for (client, rule) in states() {
                    for (state, label) in STATES {
                        gauge.observe(u64::from(rule == state), &[text("client", &client), known("state", label)]);
                    }
                }
            })
            .build();
    }

    pub(crate) fn packet(&self, client: &str, code: PacketCode, outcome: PacketOutcome) {
        let (outcome, drop) = match outcome {
            PacketOutcome::Ok => ("ok", ""),
            PacketOutcome::Duplicate => ("duplicate", ""),
            PacketOutcome::Dropped(drop) => ("dropped", drop.code()),
        };
        let labels =
            [text("client", client), known("code", code.label()), known("outcome", outcome), known("drop", drop)];
        self.packets.add(1, &labels);
    }

    /// A genuine Access-Request: what proves it, and whether it had a Message-Authenticator.
    pub(crate) fn access_request(&self, client: &str, protocol: &'static str, signed: bool) {
        let signed = known("signed", if signed { "yes" } else { "no" });
        self.access_requests.add(1, &[text("client", client), known("protocol", protocol), signed]);
    }

    /// A request waits for the answer to its look-alike.
    pub(crate) fn joined(&self, client: &str) {
        self.joined.add(1, &[text("client", client)]);
    }

    /// A reply does not fit into a packet, or cannot be written otherwise: the login is refused.
    pub(crate) fn unwritten(&self, client: &str) {
        self.unwritten.add(1, &[text("client", client)]);
    }

    /// A device has repeated itself after so long.
    pub(crate) fn retry_interval(&self, client: &str, interval: Duration) {
        self.retry_interval.record(interval.as_secs_f64(), &[text("client", client)]);
    }

    /// While a shared secret is being changed: which one proved a packet.
    pub(crate) fn secret_used(&self, client: &str, in_use: InUse) {
        let secret = match in_use {
            InUse::Current => "current",
            InUse::Previous => "previous",
        };
        self.secret_used.add(1, &[text("client", client), known("secret", secret)]);
    }

    /// An attempt has begun, and counts until what is returned is dropped.
    pub(crate) fn in_flight(&self) -> InFlight<'_> {
        InFlight::new(self, None)
    }

    fn change_in_flight(&self, change: i64, method: Option<Method>) {
        let method = known("method", method.map_or("none", Method::code));
        self.in_flight.add(change, &[known("protocol", PROTOCOL), method]);
    }

    pub(crate) fn attempt(&self, client: &str, method: &'static str, reason: Reason) {
        let result = known("result", reason.class().code());
        let labels = [
            text("client", client),
            known("protocol", PROTOCOL),
            known("method", method),
            result,
            known("reason", reason.code()),
        ];
        self.attempts.add(1, &labels);
    }

    pub(crate) fn duration(&self, client: &str, phase: Phase, result: ResultClass, duration: Duration) {
        let labels = [text("client", client), known("phase", phase.label()), known("result", result.code())];
        self.duration.record(duration.as_secs_f64(), &labels);
    }

    /// Somebody was let in while verification was down.
    pub(crate) fn fail_open(&self, client: &str) {
        self.fail_open.add(1, &[text("client", client)]);
    }

    pub(crate) fn password_ok_factor_failed(&self, client: &str) {
        self.password_ok_factor_failed.add(1, &[text("client", client)]);
    }

    pub(crate) fn directory(&self, name: &str, duration: Duration, error: Option<Outcome>) {
        self.upstream("directory", name, duration, error.map(Outcome::code));
    }

    /// A server was asked.
    pub(crate) fn upstream(&self, kind: &'static str, name: &str, duration: Duration, error: Option<&'static str>) {
        let labels = [known("kind", kind), text("name", name)];
        self.upstream_duration.record(duration.as_secs_f64(), &labels);
        if let Some(error) = error {
            self.upstream_error(kind, name, error);
        }
    }

    pub(crate) fn upstream_error(&self, kind: &'static str, name: &str, error: &'static str) {
        self.upstream_errors.add(1, &[known("kind", kind), text("name", name), known("error", error)]);
    }

    pub(crate) fn settings_revision(&self, revision: u64) {
        self.settings_revision.record(revision, &[]);
    }
}

const PROTOCOL: &str = "radius";

/// A request that counts as in work.
pub(crate) struct InFlight<'m> {
    metrics: &'m Metrics,
    method: Option<Method>,
}

impl<'m> InFlight<'m> {
    fn new(metrics: &'m Metrics, method: Option<Method>) -> Self {
        metrics.change_in_flight(1, method);
        Self { metrics, method }
    }

    /// It waits for this now.
    pub(crate) fn waits_for(&mut self, method: Option<Method>) {
        *self = Self::new(self.metrics, method);
    }
}

impl std::ops::Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.metrics.change_in_flight(-1, self.method);
    }
}

/// Which part of an attempt took the time.
#[derive(Clone, Copy)]
pub(crate) enum Phase {
    /// Name and password, at the directory.
    First,
    /// The second factor, at verification.
    Second,
    Total,
}

impl Phase {
    fn label(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "second",
            Self::Total => "total",
        }
    }
}

/// What kind of packet, as far as its first octet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PacketCode {
    AccessRequest,
    AccountingRequest,
    StatusServer,
    Other,
}

impl PacketCode {
    pub(crate) fn of(octets: &[u8]) -> Self {
        match octets.first() {
            Some(1) => Self::AccessRequest,
            Some(4) => Self::AccountingRequest,
            Some(12) => Self::StatusServer,
            _ => Self::Other,
        }
    }

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::AccessRequest => "access_request",
            Self::AccountingRequest => "accounting_request",
            Self::StatusServer => "status_server",
            Self::Other => "other",
        }
    }
}

/// What became of a packet.
#[derive(Clone, Copy)]
pub(crate) enum PacketOutcome {
    /// Worked on, or answered at once.
    Ok,
    Duplicate,
    Dropped(Drop),
}

fn known(key: &'static str, value: &'static str) -> KeyValue {
    KeyValue::new(key, value)
}

fn text(key: &'static str, value: &str) -> KeyValue {
    KeyValue::new(key, value.to_owned())
}
