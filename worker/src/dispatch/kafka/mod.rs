//! Produces to Kafka: one record per attempt, acknowledged by all in-sync replicas before the attempt counts as done.
//!
//! One producer per endpoint and patience, made on demand, closed when idle. A broker that is away is a failure within
//! the task's timeout, never a success. When an attempt is given up while its record waits or is on its way, the record
//! may still arrive, as long as its patience lasts: at least once, as everywhere; its fencing token tells it from a
//! later attempt's.

mod failure;
mod producer;
mod settings;
mod turns;

use std::time::Duration;

use async_trait::async_trait;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::FutureRecord;
use rdkafka::producer::future_producer::DeliveryFuture;
use reveille_shared::Context;
use reveille_shared::model::run::{Outcome, OutcomeCode};
use reveille_shared::model::task::MessageFormat;

use self::producer::{Producer, Producers};
use self::settings::{Key, patience_of};
use super::pool::Kept;
use super::target::TargetPolicy;
use super::{Dispatch, cloudevents};
use crate::call::{Answer, Call, deadline_of};

/// Between two looks whether a full queue has room again.
const QUEUE_FULL_WAIT: Duration = Duration::from_millis(20);

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
        let patience = patience_of(deadline_of(&call.definition.task));
        let key = Key { endpoint: call.destination.endpoint.clone(), patience };
        let producer = self.producers.get(&key, topic).await?;
        let sent = self.send(call, topic, &producer).await.inspect_err(|outcome| self.spoilt(&producer, outcome))?;
        match sent.await {
            Ok(Ok(_delivered)) => Ok(Outcome::new(OutcomeCode::Ok, String::new()).into()),
            Ok(Err((error, _record))) => Err(failure::of_record(&error)),
            // The producer was closed meanwhile.
            Err(_cancelled) => {
                Err(Outcome::new(OutcomeCode::Transport, "the producer ended before the broker answered"))
            }
        }
        .inspect_err(|outcome| self.spoilt(&producer, outcome))
    }

    /// Queues the record, waiting for room: a burst of large ones is no failure of the broker's.
    async fn send(&self, call: &Call<'_>, topic: &str, producer: &Kept<Producer>) -> Result<DeliveryFuture, Outcome> {
        let key = match &call.definition.task.connection.key {
            Some(key) => call.text(key).into_owned(),
            None => call.run.id.to_string(),
        };
        let body = call.body();
        loop {
            let record = FutureRecord::to(topic).key(&key).payload(body.as_bytes()).headers(headers(call));
            match producer.value.send(record) {
                Ok(sent) => return Ok(sent),
                Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                    self.context.clock.clock().sleep(QUEUE_FULL_WAIT).await;
                }
                Err(error) => return Err(failure::before_sending(&error)),
            }
        }
    }

    /// A producer remembers for minutes what a topic refused; the next attempt is to ask anew.
    fn spoilt(&self, producer: &Kept<Producer>, outcome: &Outcome) {
        if producer.value.is_broken() || outcome.code == OutcomeCode::Rejected {
            self.producers.forget(producer);
        }
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
