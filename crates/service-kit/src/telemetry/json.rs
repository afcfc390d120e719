//! The log line: one JSON object, `ts`, `level`, `service`, `event`, `message` first, then the fields of the event beside them.

use opentelemetry::trace::TraceContextExt;
use serde_json::{Map, Value};
use std::fmt;
use time::OffsetDateTime;
use time::macros::format_description;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes events as lines.
pub(super) struct Lines {
    pub(super) service: &'static str,
}

/// The fields of spans are for traces; a line shows its event's fields only, so nothing is formatted for a span.
pub(super) struct NoFields;

impl FormatFields<'_> for NoFields {
    fn format_fields<R: RecordFields>(&self, _: Writer<'_>, _: R) -> fmt::Result {
        Ok(())
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let mut fields = fields.0;
        if let Some(id) = trace_id() {
            fields.insert("trace_id".to_owned(), id.into());
        }
        let mut first = Vec::new();
        first.push(("ts", now().into()));
        first.push(("level", event.metadata().level().as_str().to_ascii_lowercase().into()));
        first.push(("service", fields.remove("service").unwrap_or_else(|| self.service.into())));
        first.extend(fields.remove("event").map(|name| ("event", name)));
        first.extend(fields.remove("message").map(|text| ("message", text)));
        let rest = fields.iter().map(|(name, value)| (name.as_str(), value));
        let mut before = '{';
        for (name, value) in first.iter().map(|(name, value)| (*name, value)).chain(rest) {
            write!(out, "{before}{}:{value}", Value::from(name))?;
            before = ',';
        }
        writeln!(out, "}}")
    }
}

fn now() -> String {
    let ms = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    OffsetDateTime::now_utc().format(&ms).unwrap_or_default()
}

fn trace_id() -> Option<String> {
    opentelemetry::Context::map_current(|context| {
        let span = context.span().span_context().clone();
        span.is_valid().then(|| span.trace_id().to_string())
    })
}

struct Fields(Map<String, Value>);

impl Fields {
    /// A dot nests. Where a plain value stands in the way the name stays as it is: nothing is lost.
    fn put(&mut self, field: &Field, value: Value) {
        let name = field.name().trim_start_matches("r#");
        let mut table = &mut self.0;
        let mut left = name;
        while let Some((section, rest)) = left.split_once('.') {
            let free = matches!(table.get(section), None | Some(Value::Object(_)));
            if !free {
                break;
            }
            let inner = table.entry(section).or_insert_with(|| Value::Object(Map::new()));
            table = inner.as_object_mut().expect("an object, as just seen");
            left = rest;
        }
        table.insert(left.to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, crate::chain(value).into());
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
}
