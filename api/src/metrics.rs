//! Request counters and durations by route; never by raw path, never with ids.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use reveille_shared::runtime::telemetry::Metrics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    method: String,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

/// What the API counts.
#[derive(Clone)]
pub(crate) struct ApiMetrics {
    requests: Family<Request, Counter>,
    durations: Family<Route, Histogram>,
}

/// Bounds of the duration histogram in seconds: 0.5 ms to 5 s.
const BOUNDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

impl ApiMetrics {
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let this =
            Self { requests: Family::default(), durations: Family::new_with_constructor(|| Histogram::new(BOUNDS)) };
        metrics.register(|registry| {
            registry.register("api_requests", "Requests by method, route and status", this.requests.clone());
            registry.register(
                "api_request_duration_seconds",
                "Time from the request's head to the answer's",
                this.durations.clone(),
            );
        });
        this
    }

    pub(crate) fn observe(&self, method: &str, route: &str, status: u16, seconds: f64) {
        let request = Request { method: method.to_owned(), route: route.to_owned(), status };
        self.requests.get_or_create(&request).inc();
        self.durations.get_or_create(&Route { route: route.to_owned() }).observe(seconds);
    }
}
