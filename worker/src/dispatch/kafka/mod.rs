//! Produces to Kafka: one record per attempt, acknowledged by all in-sync replicas before the attempt counts as done.
//!
//! One producer per endpoint and patience, made on demand, closed when idle. A broker that is away is a failure within
//! the task's timeout, never a success. When an attempt is given up while its record waits or is on its way, the record
//! may still arrive: at least once, as everywhere. The librdkafka documentation (CONFIGURATION.md) is the source of the
//! settings' names.

mod producer;

use std::time::Duration;

use async_trait::async_trait;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::FutureRecord;
use reveille_shared::model::run::{Outcome, OutcomeCode};
use reveille_shared::model::task::MessageFormat;
use reveille_shared::runtime::Context;

use self::producer::{Producer, Producers};
use super::target::TargetPolicy;
use super::{Answer, Call, Dispatch, cloudevents};

/// A producer gives a record up this long before the attempt's own deadline, so that its reason is known.
const MARGIN: Duration = Duration::from_millis(500);

/// Produces to Kafka.
pub(crate) struct Kafka {
    context: Context,
    producers: Producers,
}

impl Kafka {
    /// Prepares everything; connects nowhere.
    pub(crate) fn new(context: &Context, targets: TargetPolicy) -> Self {
        Self { context: context.clone(), producers: Producers::new(context, targets) }
    }

    /// Closes producers that nobody used for a while.
    pub(crate) fn close_idle(&self) {
        self.producers.close_idle(self.context.clock.clock().monotonic());
    }

    async fn call(&self, call: &Call<'_>) -> Result<Answer, Outcome> {
        let connection = &call.definition.task.connection;
        let topic = connection.topic.as_deref().filter(|topic| !topic.is_empty());
        let topic = topic.ok_or_else(|| Outcome::new(OutcomeCode::Refused, "connection.topic is missing"))?;
        let deadline = crate::exit::deadline_of(&call.definition.task);
        let patience = deadline.saturating_sub(MARGIN).max(deadline / 2);
        let producer = self.producers.get(&call.destination.endpoint, patience, topic).await?;
        let key = match &connection.key {
            Some(key) => call.text(key).into_owned(),
            None => call.run.id.to_string(),
        };
        let body = call.body();
        let record = FutureRecord::to(topic).key(&key).payload(body.as_bytes()).headers(headers(call));
        let sent = producer.value.send(record).map_err(|error| self.failed(&producer, &error))?;
        match sent.await {
            Ok(Ok(_delivered)) => Ok(Outcome::new(OutcomeCode::Ok, String::new()).into()),
            Ok(Err((error, _record))) => Err(self.failed(&producer, &error)),
            // The producer was closed meanwhile.
            Err(_cancelled) => {
                Err(Outcome::new(OutcomeCode::Transport, "the producer ended before the broker answered"))
            }
        }
    }

    fn failed(&self, producer: &super::pool::Kept<Producer>, error: &KafkaError) -> Outcome {
        let outcome = failure_of(error);
        // A producer remembers for minutes what a topic refused; the next attempt is to ask anew.
        if producer.value.is_broken() || outcome.code == OutcomeCode::Rejected {
            self.producers.forget(producer);
        }
        outcome
    }
}

#[async_trait]
impl Dispatch for Kafka {
    async fn dispatch(&self, call: &Call<'_>) -> Answer {
        self.call(call).await.unwrap_or_else(Answer::from)
    }
}

/// The document's headers, those of the event, and those that name the run: later ones of a name win.
fn headers(call: &Call<'_>) -> OwnedHeaders {
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, value) in &call.destination.headers {
        headers.push((name.clone(), call.text(value).into_owned()));
    }
    if call.definition.task.connection.format == MessageFormat::CloudEvents {
        headers.retain(|(name, _)| !name.starts_with("ce_"));
        headers.extend(cloudevents::attributes(call).into_iter().map(|(name, value)| (format!("ce_{name}"), value)));
    }
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        headers.push(("content-type".to_owned(), cloudevents::DATA.to_owned()));
    }
    let run = [
        ("reveille-run-id", call.run.id.to_string()),
        ("reveille-schedule-id", call.run.schedule_id.to_string()),
        ("reveille-attempt", call.run.attempt.to_string()),
        ("reveille-nominal-time", call.scheduled_at()),
        ("reveille-fencing-token", call.run.lease_token.to_string()),
    ];
    headers.retain(|(name, _)| !name.to_ascii_lowercase().starts_with("reveille-"));
    headers.extend(run.map(|(name, value)| (name.to_owned(), value)));
    if let Some(place) = call.traceparent {
        headers.retain(|(name, _)| !name.eq_ignore_ascii_case("traceparent"));
        headers.push(("traceparent".to_owned(), place.to_string()));
    }
    if let Some(traceparent) = call.traceparent {
        headers.retain(|(name, _)| !matches!(name.to_ascii_lowercase().as_str(), "traceparent" | "tracestate"));
        headers.push(("traceparent".to_owned(), traceparent.to_string()));
    }
    headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), |made, (name, value)| {
        made.insert(Header { key: name, value: Some(value) })
    })
}

/// What went wrong, by its code: the sentences of librdkafka name brokers.
fn failure_of(error: &KafkaError) -> Outcome {
    let Some(code) = error.rdkafka_error_code() else {
        return Outcome::new(OutcomeCode::Refused, "no producer can be made from the connection's settings");
    };
    let kind = match code {
        RDKafkaErrorCode::MessageSizeTooLarge
        | RDKafkaErrorCode::InvalidTopic
        | RDKafkaErrorCode::InvalidRecord
        | RDKafkaErrorCode::InvalidMessageSize
        | RDKafkaErrorCode::InvalidMessage => OutcomeCode::Refused,
        RDKafkaErrorCode::AllBrokersDown
        | RDKafkaErrorCode::BrokerTransportFailure
        | RDKafkaErrorCode::Resolve
        | RDKafkaErrorCode::OperationTimedOut
        | RDKafkaErrorCode::SSL
        | RDKafkaErrorCode::QueueFull => OutcomeCode::Connect,
        // It may have been on its way.
        RDKafkaErrorCode::MessageTimedOut
        | RDKafkaErrorCode::RequestTimedOut
        | RDKafkaErrorCode::NetworkException
        | RDKafkaErrorCode::PurgeInflight
        | RDKafkaErrorCode::PurgeQueue => OutcomeCode::Transport,
        _ => OutcomeCode::Rejected,
    };
    Outcome::new(kind, format!("kafka: {code:?}"))
}
