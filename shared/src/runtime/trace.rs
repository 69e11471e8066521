//! Spans of distributed traces: what the roles say about where time went, and for whom.
//!
//! A [`Tracer`] is passed around like the metrics, never global. Off, it makes spans that are nothing and cost
//! nothing; the binary alone knows where spans are sent (see its `telemetry.rs`).
//!
//! Spans are made by hand where a step of a run's life is, not by the log: what leaves the process in a trace
//! is what stands here in an attribute and nothing else. Never give one a URL, a header, a document or a body.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::global::{BoxedSpan, BoxedTracer};
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, TraceFlags, TraceState, Tracer as _,
};
use opentelemetry::{Context, KeyValue, SpanId, TraceId, Value};

use super::clock;
use crate::model::traceparent::TraceParent;

/// Makes spans. Cloning shares it.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<BoxedTracer>>);

/// Which side of a call a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Answers a request.
    Server,
    /// Calls somebody.
    Client,
    /// Happens inside this process.
    Internal,
}

/// When something began, in case it becomes a span.
#[derive(Clone, Copy, Debug)]
pub struct Began(Option<SystemTime>);

impl Tracer {
    /// Makes no spans.
    pub fn off() -> Self {
        Self(None)
    }

    /// Makes spans with this tracer.
    pub fn new(tracer: BoxedTracer) -> Self {
        Self(Some(Arc::new(tracer)))
    }

    /// Now, for [`Tracer::span_since`].
    pub fn began(&self) -> Began {
        Began(self.0.is_some().then(clock::wall))
    }

    /// A span that begins now; without a parent, it is the first of a new trace.
    pub fn span(&self, kind: Kind, name: impl Into<Cow<'static, str>>, parent: Option<TraceParent>) -> Span {
        self.span_since(self.began(), kind, name, parent)
    }

    /// A span that began earlier: what is only known to be worth one when it is over.
    pub fn span_since(
        &self,
        began: Began,
        kind: Kind,
        name: impl Into<Cow<'static, str>>,
        parent: Option<TraceParent>,
    ) -> Span {
        let Some(tracer) = &self.0 else { return Span(None) };
        let mut builder = SpanBuilder::from_name(name).with_kind(match kind {
            Kind::Server => SpanKind::Server,
            Kind::Client => SpanKind::Client,
            Kind::Internal => SpanKind::Internal,
        });
        if let Some(began) = began.0 {
            builder = builder.with_start_time(began);
        }
        // Never the current context of the thread: a span's parent is the one that was given.
        let parent = parent.map_or_else(Context::new, |parent| {
            let is_remote = kind == Kind::Server;
            Context::new().with_remote_span_context(span_context(parent, is_remote))
        });
        Span(Some(tracer.build_with_context(builder, &parent)))
    }
}

/// A span, which ends when it is dropped.
#[derive(Default)]
pub struct Span(Option<BoxedSpan>);

impl Span {
    /// Says something about it. The value is not made when nobody records the span.
    pub fn set<V: Into<Value>>(&mut self, key: &'static str, value: impl FnOnce() -> V) {
        if let Some(span) = &mut self.0
            && span.is_recording()
        {
            span.set_attribute(KeyValue::new(key, value()));
        }
    }

    /// What it is about failed, for this reason.
    pub fn fail(&mut self, reason: &'static str) {
        if let Some(span) = &mut self.0 {
            span.set_status(Status::error(reason));
        }
    }

    /// Points to a span of another trace that led to this one.
    pub fn link(&mut self, to: Option<TraceParent>) {
        if let (Some(span), Some(to)) = (&mut self.0, to) {
            span.add_link(span_context(to, true), Vec::new());
        }
    }

    /// Its place in its trace, for whoever goes on from here; `None` when traces are off.
    pub fn traceparent(&self) -> Option<TraceParent> {
        let context = self.0.as_ref()?.span_context();
        context.is_valid().then(|| TraceParent {
            trace_id: u128::from_be_bytes(context.trace_id().to_bytes()),
            span_id: u64::from_be_bytes(context.span_id().to_bytes()),
            sampled: context.is_sampled(),
        })
    }
}

fn span_context(place: TraceParent, is_remote: bool) -> SpanContext {
    let flags = if place.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    SpanContext::new(
        TraceId::from(place.trace_id),
        SpanId::from(place.span_id),
        flags,
        is_remote,
        TraceState::default(),
    )
}
