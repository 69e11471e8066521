//! Where the spans go: to a collector that speaks OTLP over HTTP, when one is configured.
//!
//! Invariant: nothing waits for the collector. Spans queue up to a bound, a thread of their own sends them, what
//! does not fit or cannot be sent is dropped and counted, and a stop waits for the last of them no longer than
//! [`END_WITHIN`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::global::BoxedTracer;
use opentelemetry::trace::TracerProvider;
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor,
};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use reveille_shared::runtime::telemetry::Metrics;
use reveille_shared::runtime::trace::Tracer;

use crate::config::{Settings, otlp_headers};

const PATH: &str = "/v1/traces";
/// Spans that wait to be sent, at most: some seconds of a busy worker, a few MB.
const QUEUE: usize = 8192;
const BATCH: usize = 512;
/// How long spans are gathered.
const GATHER: Duration = Duration::from_secs(1);
/// How long the collector may take for a batch.
const SEND_WITHIN: Duration = Duration::from_secs(5);
/// How long a stop waits for what was not sent yet.
const END_WITHIN: Duration = Duration::from_secs(2);

/// The traces of a process.
pub(crate) struct Traces {
    pub(crate) tracer: Tracer,
    provider: Option<SdkTracerProvider>,
}

impl Traces {
    /// No traces.
    pub(crate) fn off() -> Self {
        Self { tracer: Tracer::off(), provider: None }
    }

    /// Sends traces where the settings say; connects nowhere yet. TLS must be installed before.
    ///
    /// # Errors
    /// When the client cannot be made.
    pub(crate) fn start(
        settings: &Settings,
        role: &'static str,
        instance: String,
        metrics: &Metrics,
    ) -> anyhow::Result<Self> {
        let Some(endpoint) = &settings.otlp_endpoint else { return Ok(Self::off()) };
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_endpoint(traces_url(endpoint))
            .with_timeout(SEND_WITHIN)
            .with_headers(otlp_headers(settings.otlp_headers.as_deref().unwrap_or_default()).into_iter().collect())
            .build()
            .context("--otlp-endpoint cannot be used")?;
        let counts = Arc::new(Counts::default());
        metrics.register(|registry| {
            let help =
                "Spans by what became of them: exported, failed (not taken by the collector), dropped (queue full)";
            registry.register("trace_spans", help, counts.spans.clone());
        });
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(GATHER)
            .build();
        let counting = Counting { exporter, counts: counts.clone(), failing: AtomicBool::new(false) };
        let batches = BatchSpanProcessor::new(counting, config);
        let resource = Resource::builder().with_service_name("reveille").with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", instance),
            KeyValue::new("reveille.role", role),
        ]);
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.otlp_sample)));
        let provider = SdkTracerProvider::builder()
            .with_span_processor(Bounded { batches, counts })
            .with_sampler(sampler)
            .with_resource(resource.build())
            .build();
        let tracer = Tracer::new(BoxedTracer::new(Box::new(provider.tracer("reveille"))));
        tracing::info!(endpoint, sample = settings.otlp_sample, "traces are sent to the collector");
        Ok(Self { tracer, provider: Some(provider) })
    }

    /// Sends what waits, for a while. Blocks its thread.
    pub(crate) fn end(&self) {
        let Some(provider) = &self.provider else { return };
        if provider.shutdown_with_timeout(END_WITHIN).is_err() {
            tracing::info!("the last spans could not be sent to the collector");
        }
    }
}

/// A collector is named by its base address, as the specification has it; the whole one is understood, too.
fn traces_url(endpoint: &str) -> String {
    let base = endpoint.trim_end_matches('/');
    if base.ends_with(PATH) { base.to_owned() } else { format!("{base}{PATH}") }
}

#[derive(Debug, Default)]
struct Counts {
    /// Queued or being sent.
    waiting: AtomicUsize,
    spans: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Counts {
    fn count(&self, result: &'static str, spans: usize) {
        self.spans.get_or_create(&[("result", result)]).inc_by(u64::try_from(spans).unwrap_or(u64::MAX));
    }
}

/// Lets no more spans wait than the queue takes, so that none is dropped uncounted.
#[derive(Debug)]
struct Bounded {
    batches: BatchSpanProcessor,
    counts: Arc<Counts>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.counts.waiting.fetch_add(1, Ordering::Relaxed) >= QUEUE {
            self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
            return self.counts.count("dropped", 1);
        }
        self.batches.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// Counts what is sent, and says when the collector stops taking it.
#[derive(Debug)]
struct Counting<E> {
    exporter: E,
    counts: Arc<Counts>,
    failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Counting<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let outcome = self.exporter.export(batch).await;
        self.counts.waiting.fetch_sub(spans, Ordering::Relaxed);
        let was_failing = self.failing.swap(outcome.is_err(), Ordering::Relaxed);
        match &outcome {
            Ok(()) => {
                self.counts.count("exported", spans);
                if was_failing {
                    tracing::info!("the collector takes traces again");
                }
            }
            Err(error) => {
                self.counts.count("failed", spans);
                if !was_failing {
                    let error: &dyn std::error::Error = error;
                    tracing::warn!(error, "the collector does not take the traces, they are dropped");
                }
            }
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::traces_url;

    #[test]
    fn a_collector_is_named_by_its_base_address() {
        for endpoint in ["http://c:4318", "http://c:4318/", "http://c:4318/v1/traces", "http://c:4318/v1/traces/"] {
            assert_eq!(traces_url(endpoint), "http://c:4318/v1/traces", "{endpoint}");
        }
        assert_eq!(traces_url("https://c/otlp"), "https://c/otlp/v1/traces");
    }
}
