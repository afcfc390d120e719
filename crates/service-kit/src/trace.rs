//! W3C trace context across processes: into and out of gRPC metadata and bus headers.

use http::HeaderMap;
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{FutureExt, TraceContextExt, WithContext};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use std::collections::{BTreeMap, HashMap};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The trace id of the span we are in, as 32 hexadecimal digits.
pub fn current_trace_id() -> Option<String> {
    let context = Context::current();
    let span = context.span().span_context().clone();
    span.is_valid().then(|| span.trace_id().to_string())
}

/// Headers (`traceparent`, `tracestate`) that carry the span we are in.
pub fn current_headers() -> BTreeMap<String, String> {
    let mut headers = HashMap::new();
    TraceContextPropagator::new().inject_context(&Context::current(), &mut headers);
    headers.retain(|_, value: &mut String| !value.is_empty());
    headers.into_iter().collect()
}

/// Works in a span, perhaps for long. A span that nobody records is given back at once: its ids are enough for what comes of it.
pub fn in_span<W: Future>(span: Span, work: impl FnOnce(Kept) -> W) -> WithContext<W> {
    let context = span.context();
    let (context, kept) = match context.span().is_recording() {
        true => (context, Some(Box::new(span))),
        false => (Context::new().with_remote_span_context(context.span().span_context().clone()), None),
    };
    work(Kept(kept)).with_context(context)
}

/// What work is to hold until its span ends with it.
pub struct Kept(#[expect(dead_code, reason = "dropped")] Option<Box<Span>>);

/// Links the span to where a message came from: what a bus wakes is a consequence, not a child.
pub fn link(span: &Span, headers: &BTreeMap<String, String>) {
    let headers: HashMap<String, String> = headers.clone().into_iter().collect();
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &headers);
    span.add_link(context.span().span_context().clone());
}

/// Makes `span` a child of where a message came from, if its headers name that: the sender waits for what comes of it.
pub fn adopt_headers(span: &Span, headers: &HashMap<String, String>) {
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), headers);
    if context.span().span_context().is_valid() {
        // Fails only for a span that was entered before; ours is fresh.
        let _ = span.set_parent(context);
    }
}

/// Writes the trace of `span` into the headers of a call.
pub(crate) fn inject(span: &Span, headers: &mut HeaderMap) {
    TraceContextPropagator::new().inject_context(&span.context(), &mut Headers(headers));
}

/// Makes `span` a child of the caller's, where the headers name one.
pub(crate) fn adopt(span: &Span, headers: &HeaderMap) {
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &ReadHeaders(headers));
    if context.span().span_context().is_valid() {
        // Fails only for a span that was entered before; ours is fresh.
        let _ = span.set_parent(context);
    }
}

struct Headers<'a>(&'a mut HeaderMap);

impl Injector for Headers<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (http::HeaderName::try_from(key), http::HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}

struct ReadHeaders<'a>(&'a HeaderMap);

impl Extractor for ReadHeaders<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }
    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
