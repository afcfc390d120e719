//! The only place that names a metric of this part. Labels are closed sets: codes, kinds and the names of the settings document.

use crate::limits::Full;
use domain::{Method, Reason};
use ldap_wire::{Op, ResultCode};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, UpDownCounter};
use std::time::Duration;

/// What this part counts and measures. Clones feed the same instruments.
#[derive(Clone)]
pub struct Metrics {
    attempts: Counter<u64>,
    duration: Histogram<f64>,
    in_flight: UpDownCounter<i64>,
    factor_failed: Counter<u64>,
    bypass: Counter<u64>,
    fail_open: Counter<u64>,
    limited: Counter<u64>,
    operations: Counter<u64>,
    connections: UpDownCounter<i64>,
    refused: Counter<u64>,
    upstream_binds: Counter<u64>,
    upstream_up: Gauge<u64>,
    upstream_duration: Histogram<f64>,
    upstream_errors: Counter<u64>,
    settings_revision: Gauge<u64>,
}

/// Seconds, from 5 ms to 60 s.
const DURATION_BUCKETS: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

impl Metrics {
    pub fn new(meter: &Meter) -> Self {
        let histogram =
            |name: &'static str| meter.f64_histogram(name).with_boundaries(DURATION_BUCKETS.to_vec()).build();
        Self {
            attempts: meter.u64_counter("twinlock_auth_attempts_total").build(),
            duration: histogram("twinlock_auth_duration_seconds"),
            in_flight: meter.i64_up_down_counter("twinlock_auth_in_flight").build(),
            factor_failed: meter.u64_counter("twinlock_password_ok_factor_failed_total").build(),
            bypass: meter.u64_counter("twinlock_bypass_total").build(),
            fail_open: meter.u64_counter("twinlock_fail_open_total").build(),
            limited: meter.u64_counter("twinlock_rate_limited_total").build(),
            operations: meter.u64_counter("twinlock_ldap_operations_total").build(),
            connections: meter.i64_up_down_counter("twinlock_ldap_connections").build(),
            refused: meter.u64_counter("twinlock_ldap_connections_refused_total").build(),
            upstream_binds: meter.u64_counter("twinlock_ldap_upstream_binds_total").build(),
            upstream_up: meter.u64_gauge("twinlock_upstream_up").build(),
            upstream_duration: histogram("twinlock_upstream_duration_seconds"),
            upstream_errors: meter.u64_counter("twinlock_upstream_errors_total").build(),
            settings_revision: meter.u64_gauge("twinlock_settings_revision").build(),
        }
    }

    /// An attempt has begun, and counts until what is returned is dropped.
    pub(crate) fn in_flight(&self) -> InFlight {
        InFlight::new(self.in_flight.clone(), None)
    }

    /// Somebody was let in while verification was down.
    pub(crate) fn fail_open(&self, client: &str) {
        self.fail_open.add(1, &[KeyValue::new("client", client.to_owned())]);
    }

    pub(crate) fn bind_limited(&self) {
        self.limited.add(1, &[KeyValue::new("kind", "binds_per_second")]);
    }

    pub(crate) fn attempt_ends(&self, ended: &Ended<'_>) {
        let client = || KeyValue::new("client", ended.client.to_owned());
        let class = ended.reason.class();
        self.attempts.add(
            1,
            &[
                client(),
                protocol(),
                KeyValue::new("method", ended.method.map_or("none", Method::code)),
                KeyValue::new("result", class.code()),
                KeyValue::new("reason", ended.reason.code()),
            ],
        );
        let phases = [("first", ended.first), ("second", ended.second), ("total", Some(ended.total))];
        for (phase, length) in phases.into_iter().filter_map(|(phase, length)| Some((phase, length?))) {
            let labels = [client(), KeyValue::new("phase", phase), KeyValue::new("result", class.code())];
            self.duration.record(length.as_secs_f64(), &labels);
        }
        if ended.password_was_right && matches!(class, domain::ResultClass::Failed | domain::ResultClass::Denied) {
            self.factor_failed.add(1, &[client()]);
        }
        if class == domain::ResultClass::Bypass {
            self.bypass.add(1, &[client(), KeyValue::new("reason", ended.reason.code())]);
        }
    }

    pub(crate) fn connection_opened(&self, client: &str) {
        self.connections.add(1, &[KeyValue::new("client", client.to_owned())]);
    }

    pub(crate) fn connection_closed(&self, client: &str) {
        self.connections.add(-1, &[KeyValue::new("client", client.to_owned())]);
    }

    pub(crate) fn connection_refused(&self, why: Refused) {
        self.refused.add(1, &[KeyValue::new("cause", why.code())]);
        if let Refused::Full(_) = why {
            self.limited.add(1, &[KeyValue::new("kind", why.code())]);
        }
    }

    /// An operation of a client has got its result.
    pub(crate) fn operation(&self, client: &str, op: Op, code: ResultCode) {
        self.operations.add(
            1,
            &[
                KeyValue::new("client", client.to_owned()),
                KeyValue::new("operation", operation(op)),
                KeyValue::new("result_code", result_code(code)),
            ],
        );
    }

    /// A bind was sent to a directory on behalf of a client; `None` if no answer came.
    pub(crate) fn upstream_bind(&self, client: &str, code: Option<ResultCode>) {
        self.upstream_binds.add(
            1,
            &[
                KeyValue::new("client", client.to_owned()),
                KeyValue::new("operation", "bind"),
                KeyValue::new("result_code", code.map_or("none", result_code)),
            ],
        );
    }

    pub(crate) fn upstream_is_up(&self, directory: &str, up: bool) {
        let labels = [KeyValue::new("kind", "directory"), KeyValue::new("name", directory.to_owned())];
        self.upstream_up.record(u64::from(up), &labels);
    }

    pub(crate) fn upstream_answered(&self, directory: &str, length: Duration) {
        let labels = [KeyValue::new("kind", "directory"), KeyValue::new("name", directory.to_owned())];
        self.upstream_duration.record(length.as_secs_f64(), &labels);
    }

    pub(crate) fn upstream_failed(&self, directory: &str, error: &'static str) {
        let labels = [
            KeyValue::new("kind", "directory"),
            KeyValue::new("name", directory.to_owned()),
            KeyValue::new("error", error),
        ];
        self.upstream_errors.add(1, &labels);
    }

    pub(crate) fn settings_in_force(&self, revision: u64) {
        self.settings_revision.record(revision, &[]);
    }
}

/// An attempt that counts as in work.
pub(crate) struct InFlight {
    counter: UpDownCounter<i64>,
    method: Option<Method>,
}

impl InFlight {
    fn new(counter: UpDownCounter<i64>, method: Option<Method>) -> Self {
        counter.add(1, &in_flight_labels(method));
        Self { counter, method }
    }

    /// It waits for this now.
    pub(crate) fn waits_for(&mut self, method: Option<Method>) {
        *self = Self::new(self.counter.clone(), method);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.counter.add(-1, &in_flight_labels(self.method));
    }
}

fn in_flight_labels(method: Option<Method>) -> [KeyValue; 2] {
    [protocol(), KeyValue::new("method", method.map_or("none", Method::code))]
}

/// An attempt as the metrics see it.
pub(crate) struct Ended<'a> {
    pub client: &'a str,
    pub reason: Reason,
    pub method: Option<Method>,
    pub password_was_right: bool,
    pub first: Option<Duration>,
    pub second: Option<Duration>,
    pub total: Duration,
}

/// Why a connection was closed before its first octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// No client of the settings has this source.
    UnknownClient,
    /// A balancer, and no header in front that says whom it speaks for.
    ProxyHeader,
    /// It has to show a certificate, and showed none that counts.
    Certificate,
    Full(Full),
}

impl Refused {
    pub fn code(self) -> &'static str {
        match self {
            Self::UnknownClient => "unknown_client",
            Self::ProxyHeader => "proxy_header",
            Self::Certificate => "certificate",
            Self::Full(Full::All) => "connections",
            Self::Full(Full::Client) => "connections_per_client",
            Self::Full(Full::Source) => "connections_per_source",
        }
    }
}

fn protocol() -> KeyValue {
    KeyValue::new("protocol", domain::Protocol::Ldap.code())
}

fn operation(op: Op) -> &'static str {
    match op {
        Op::BindRequest => "bind",
        Op::SearchRequest => "search",
        Op::ModifyRequest => "modify",
        Op::AddRequest => "add",
        Op::DelRequest => "delete",
        Op::ModifyDnRequest => "modify_dn",
        Op::CompareRequest => "compare",
        Op::ExtendedRequest => "extended",
        Op::AbandonRequest => "abandon",
        Op::UnbindRequest => "unbind",
        _ => "other",
    }
}

/// Directories invent codes of their own: only the usual ones are labels.
fn result_code(code: ResultCode) -> &'static str {
    match code.0 {
        0 => "0",
        1 => "1",
        2 => "2",
        3 => "3",
        4 => "4",
        5 => "5",
        6 => "6",
        7 => "7",
        8 => "8",
        10 => "10",
        11 => "11",
        12 => "12",
        13 => "13",
        16 => "16",
        19 => "19",
        20 => "20",
        32 => "32",
        34 => "34",
        48 => "48",
        49 => "49",
        50 => "50",
        51 => "51",
        52 => "52",
        53 => "53",
        68 => "68",
        118 => "118",
        119 => "119",
        121 => "121",
        _ => "other",
    }
}
