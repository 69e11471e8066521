//! What librdkafka's error codes mean for an attempt. Its sentences are not used: they name brokers.
//!
//! Invariant: [`OutcomeCode::Connect`] and [`OutcomeCode::Rejected`] only where the topic does not hold the record,
//! because a task that is to be delivered at most once is repeated after them.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use reveille_shared::model::run::{Outcome, OutcomeCode};

/// No record was taken over by the client.
pub(super) fn before_sending(error: &KafkaError) -> Outcome {
    let Some(code) = error.rdkafka_error_code() else {
        // Of this worker's settings (a file of authorities) or means (threads), not of the document.
        return Outcome::new(OutcomeCode::Connect, "no producer could be made with the connection's settings");
    };
    outcome(kind_of(code).unwrap_or(OutcomeCode::Connect), code)
}

/// The record was queued, perhaps sent.
pub(super) fn of_record(error: &KafkaError) -> Outcome {
    let Some(code) = error.rdkafka_error_code() else {
        return Outcome::new(OutcomeCode::Transport, "the producer ended before the broker answered");
    };
    outcome(kind_of(code).unwrap_or(OutcomeCode::Transport), code)
}

pub(super) fn outcome(kind: OutcomeCode, code: Code) -> Outcome {
    let sentence = match code {
        Code::BrokerTransportFailure | Code::AllBrokersDown => "no broker could be reached",
        Code::Resolve => "no broker's name could be resolved",
        Code::Authentication | Code::SaslAuthenticationFailed => "the cluster did not accept the credentials",
        Code::UnsupportedSASLMechanism => "the cluster does not take this way of logging in",
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => "the user may not write to the topic",
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => "the cluster has no such topic",
        Code::InvalidTopic => "the topic's name is not one",
        Code::MessageSizeTooLarge | Code::InvalidMessageSize => "the record is larger than the cluster takes",
        Code::MessageTimedOut => "no broker took the record in time",
        Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend => "too few replicas are in sync",
        Code::PolicyViolation => "the topic's policy forbids the record",
        _ => return Outcome::new(kind, format!("kafka: {code:?}")),
    };
    Outcome::new(kind, format!("{sentence} ({code:?})"))
}

/// Whether the cluster said no, and if so whether for good. What it says of one record it says of all in its batch,
/// so that only a name is refused for good.
fn kind_of(code: Code) -> Option<OutcomeCode> {
    Some(match code {
        Code::InvalidTopic => OutcomeCode::Refused,
        Code::MessageSizeTooLarge
        | Code::InvalidMessage
        | Code::InvalidMessageSize
        | Code::InvalidRecord
        | Code::InvalidDifferentRecord
        | Code::InvalidTimestamp
        | Code::PolicyViolation
        | Code::UnknownTopic
        | Code::UnknownTopicOrPartition
        | Code::UnknownPartition
        | Code::NotEnoughReplicas
        | Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::Authentication => OutcomeCode::Rejected,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_in_the_topic_is_told_from_what_is_not() {
        for (code, before, after) in [
            (Code::InvalidTopic, OutcomeCode::Refused, OutcomeCode::Refused),
            (Code::MessageSizeTooLarge, OutcomeCode::Rejected, OutcomeCode::Rejected),
            (Code::NotEnoughReplicas, OutcomeCode::Rejected, OutcomeCode::Rejected),
            (Code::NotEnoughReplicasAfterAppend, OutcomeCode::Connect, OutcomeCode::Transport),
            (Code::BrokerTransportFailure, OutcomeCode::Connect, OutcomeCode::Transport),
            (Code::MessageTimedOut, OutcomeCode::Connect, OutcomeCode::Transport),
        ] {
            assert_eq!(before_sending(&KafkaError::MessageProduction(code)).code, before, "{code:?}");
            assert_eq!(of_record(&KafkaError::MessageProduction(code)).code, after, "{code:?}");
        }
        assert_eq!(before_sending(&KafkaError::ClientCreation("host".to_owned())).code, OutcomeCode::Connect);
    }
}
