//! W3C trace context across processes: into and out of gRPC metadata and bus headers.

use opentelemetry::trace::TraceContextExt;
use std::collections::BTreeMap;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The trace id of the span we are in, as 32 hexadecimal digits.
pub fn current_trace_id() -> Option<String> {
    let context = tracing::Span::current().context();
    let span = context.span().span_context().clone();
    span.is_valid().then(|| span.trace_id().to_string())
}

/// Headers (`traceparent`, `tracestate`) that carry the span we are in.
pub fn current_headers() -> BTreeMap<String, String> {
    todo!()
}

/// Links the span to where a message came from: what a bus wakes is a consequence, not a child (experience.md 13.2).
pub fn link(_span: &tracing::Span, _headers: &BTreeMap<String, String>) {
    todo!()
}
