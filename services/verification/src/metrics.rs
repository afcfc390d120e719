//! Every metric this part feeds. Attempts and their results are counted by the part the client spoke to.

use domain::Method;
use opentelemetry::metrics::{Counter, Histogram};
use opentelemetry::{KeyValue, global};

pub struct Metrics {
    lockouts: Counter<u64>,
    rate_limited: Counter<u64>,
    prompts: Counter<u64>,
    prompt_answer: Histogram<f64>,
    factor_failed: Counter<u64>,
}

/// What became of a prompt: the label's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptOutcome {
    Sent,
    Failed,
    Approved,
    Denied,
    Fraud,
    Expired,
}

impl PromptOutcome {
    fn code(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Fraud => "fraud",
            Self::Expired => "expired",
        }
    }
}

impl Metrics {
    pub fn new() -> Self {
        let meter = global::meter("twinlock");
        Self {
            lockouts: meter.u64_counter("twinlock_lockouts_total").build(),
            rate_limited: meter.u64_counter("twinlock_rate_limited_total").build(),
            prompts: meter.u64_counter("twinlock_prompts_total").build(),
            prompt_answer: meter
                .f64_histogram("twinlock_prompt_answer_seconds")
                .with_boundaries(vec![1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 110.0])
                .build(),
            factor_failed: meter.u64_counter("twinlock_password_ok_factor_failed_total").build(),
        }
    }

    /// Something was not looked at after the right password: the store gave no try (V-14, FV-22).
    pub fn locked_out(&self, method: Option<Method>) {
        self.lockouts.add(1, &[KeyValue::new("kind", method.map_or("code", Method::code))]);
    }

    /// A code before any password was not looked at (L-54).
    pub fn unverified_code_limited(&self) {
        self.rate_limited.add(1, &[KeyValue::new("kind", "unverified_code")]);
    }

    /// No prompt, call or text goes out now (V-17, V-23).
    pub fn not_now(&self, method: Method) {
        self.rate_limited.add(1, &[KeyValue::new("kind", method.code())]);
    }

    /// `provider` is a name of the settings.
    pub fn prompt(&self, provider: &str, outcome: PromptOutcome) {
        let labels = [KeyValue::new("provider", provider.to_owned()), KeyValue::new("outcome", outcome.code())];
        self.prompts.add(1, &labels);
    }

    pub fn prompt_answered(&self, provider: &str, seconds: f64) {
        self.prompt_answer.record(seconds, &[KeyValue::new("provider", provider.to_owned())]);
    }

    /// The password was right, and the factor failed (FB-08).
    pub fn factor_failed(&self, client: &str) {
        self.factor_failed.add(1, &[KeyValue::new("client", client.to_owned())]);
    }
}
