//! How a producer is set up. Source of the names: CONFIGURATION.md of librdkafka 2.12.

use std::time::Duration;

use rdkafka::config::ClientConfig;

use crate::destination::Endpoint;

/// A producer gives a record up this long before the attempt's own deadline, so that its reason is known.
const MARGIN: Duration = Duration::from_millis(500);
/// Less than this librdkafka does not take.
const LEAST: Duration = Duration::from_millis(10);

/// What one producer serves: its records wait as long as the task's timeout allows.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) endpoint: Endpoint,
    pub(super) patience: Duration,
}

/// How long the records of an attempt with this deadline may wait. In whole seconds where it can be: each patience
/// needs a producer of its own.
pub(super) fn patience_of(deadline: Duration) -> Duration {
    let patience = deadline.saturating_sub(MARGIN).max(deadline / 2).max(LEAST);
    match patience.as_secs() {
        0 => patience,
        seconds => Duration::from_secs(seconds),
    }
}

pub(super) fn config(key: &Key, bootstrap: &str) -> ClientConfig {
    let Key { endpoint, patience } = key;
    let patience_ms = patience.as_millis();
    // One request must fit into the patience, or a broker that is away would be noticed long after it.
    let request_ms = patience_ms.clamp(10, 5000).to_string();
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("client.id", "reveille")
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("message.timeout.ms", patience_ms.to_string())
        .set("request.timeout.ms", &request_ms)
        .set("socket.timeout.ms", &request_ms)
        .set("socket.connection.setup.timeout.ms", patience_ms.clamp(1000, 5000).to_string())
        .set("socket.nagle.disable", "true")
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "500")
        .set("linger.ms", "1")
        // A topic that is not there is told from a broker that is not, within the patience.
        .set("topic.metadata.propagation.max.ms", (patience_ms / 2).clamp(1, 5000).to_string())
        // The partition of a key is the one that Java's producers choose.
        .set("partitioner", "murmur2_random")
        // How large a record may be is the broker's to say.
        .set("message.max.bytes", "67108864")
        // Memory, in KiB, for records that wait.
        .set("queue.buffering.max.kbytes", "65536");
    let security = match (endpoint.tls, endpoint.sasl_mechanism.is_some()) {
        (false, false) => "plaintext",
        (true, false) => "ssl",
        (false, true) => "sasl_plaintext",
        (true, true) => "sasl_ssl",
    };
    config.set("security.protocol", security);
    if let Some(mechanism) = &endpoint.sasl_mechanism {
        config.set("sasl.mechanism", mechanism);
        config.set("sasl.username", endpoint.username.as_deref().unwrap_or_default());
        config.set("sasl.password", endpoint.password.as_deref().unwrap_or_default());
    }
    if endpoint.tls {
        let authorities = endpoint.ca_file.as_ref().map_or("probe".into(), |path| path.to_string_lossy());
        config.set("ssl.ca.location", authorities);
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::Endpoint;

    #[test]
    fn a_record_is_given_up_before_its_attempt() {
        for (deadline_ms, patience_ms) in
            [(1, 10), (100, 50), (900, 450), (1500, 1000), (2000, 1000), (30_000, 29_000), (900_000, 899_000)]
        {
            let patience = patience_of(Duration::from_millis(deadline_ms));
            assert_eq!(patience, Duration::from_millis(patience_ms), "{deadline_ms}");
        }
    }

    #[test]
    fn librdkafka_takes_the_settings_whatever_the_deadline() {
        for deadline_ms in [1, 10, 1000, 30_000, 900_000] {
            let patience = patience_of(Duration::from_millis(deadline_ms));
            let key = Key { endpoint: Endpoint::at("127.0.0.1:1"), patience };
            let made: Result<rdkafka::producer::FutureProducer, _> = config(&key, "127.0.0.1:1").create();
            assert!(made.is_ok(), "{deadline_ms} ms: {:?}", made.err());
        }
    }
}
