//! What is counted about messages. Labels are closed sets: providers are named in the settings.

use domain::settings::Channel;
use opentelemetry::metrics::{Counter, Histogram};
use opentelemetry::{KeyValue, global};
use std::time::Duration;

/// Seconds, from 10 ms to 30 s.
const DURATION_BUCKETS: [f64; 11] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

pub struct Metrics {
    messages: Counter<u64>,
    duration: Histogram<f64>,
    cost: Counter<f64>,
}

impl Metrics {
    pub fn new() -> Self {
        let meter = global::meter("twinlock");
        Self {
            messages: meter.u64_counter("twinlock_messages_total").build(),
            duration: meter
                .f64_histogram("twinlock_message_duration_seconds")
                .with_boundaries(DURATION_BUCKETS.to_vec())
                .build(),
            cost: meter.f64_counter("twinlock_message_cost_total").build(),
        }
    }

    /// A provider took a message, or did not; `result` is `accepted` or a refusal's code.
    pub fn asked(&self, channel: Channel, provider: &str, result: &'static str, took: Duration) {
        let labels = [
            KeyValue::new("channel", channel.code()),
            KeyValue::new("provider", provider.to_owned()),
            KeyValue::new("result", result),
        ];
        self.duration.record(took.as_secs_f64(), &labels);
        self.messages.add(1, &labels);
    }

    /// What a provider says that a message costs, in whatever money it counts in.
    pub fn costs(&self, channel: Channel, provider: &str, price: f64) {
        let labels = [
            KeyValue::new("channel", channel.code()),
            KeyValue::new("provider", provider.to_owned()),
            KeyValue::new("result", "accepted"),
        ];
        self.cost.add(price, &labels);
    }

    /// A message was not handed to anybody: `not_allowed`, `too_late`, or `voip` for one that was, to such a number.
    pub fn noted(&self, channel: Channel, result: &'static str) {
        let labels =
            [KeyValue::new("channel", channel.code()), KeyValue::new("provider", ""), KeyValue::new("result", result)];
        self.messages.add(1, &labels);
    }
}
