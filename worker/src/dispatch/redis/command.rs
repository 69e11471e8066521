//! What is sent to Redis, and what its answer means.

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisResult, Value, cmd};
use reveille_shared::model::run::{Outcome, OutcomeCode};
use reveille_shared::model::task::{MessageFormat, RedisMode};

use crate::call::{Answer, Call};
use crate::dispatch::cloudevents;

/// A message as commands.
pub(super) enum Message {
    One(Cmd),
    /// Executed at once or not at all; the first answer counts.
    Together(Pipeline),
}

impl Message {
    /// The message of a call.
    ///
    /// # Errors
    /// Refused for good: the document names no topic.
    pub(super) fn of(call: &Call<'_>) -> Result<Self, Outcome> {
        let connection = &call.definition.task.connection;
        let topic = connection.topic.as_deref().filter(|topic| !topic.is_empty());
        let topic = topic.ok_or_else(|| Outcome::new(OutcomeCode::Refused, "connection.topic is missing"))?;
        let body = match connection.format {
            MessageFormat::Raw => call.body().into_owned(),
            MessageFormat::CloudEvents => cloudevents::structured(call),
        };
        Ok(match (connection.mode.unwrap_or_default(), connection.maxlen) {
            (RedisMode::Publish, _) => Self::One(cmd("PUBLISH").arg(topic).arg(body).take()),
            (RedisMode::Stream, maxlen) => {
                let mut add = cmd("XADD");
                add.arg(topic);
                if let Some(maxlen) = maxlen {
                    // About so many: exactly would cost the server far more.
                    add.arg("MAXLEN").arg("~").arg(maxlen);
                }
                add.arg("*").arg("data").arg(body);
                for (name, value) in run_fields(call) {
                    add.arg(name).arg(value);
                }
                if let Some(traceparent) = call.traceparent {
                    add.arg("traceparent").arg(traceparent.to_string());
                }
                Self::One(add)
            }
            (RedisMode::List, None) => Self::One(cmd("LPUSH").arg(topic).arg(body).take()),
            (RedisMode::List, Some(maxlen)) => {
                let mut both = Pipeline::new();
                both.atomic().cmd("LPUSH").arg(topic).arg(body);
                both.cmd("LTRIM").arg(topic).arg(0).arg(maxlen - 1).ignore();
                Self::Together(both)
            }
        })
    }

    /// Sends it; `asking` lets a node of a cluster answer for a slot that is on its way to it.
    pub(super) async fn send(&self, mut connection: MultiplexedConnection, asking: bool) -> RedisResult<Value> {
        match self {
            Self::One(command) if !asking => command.query_async(&mut connection).await,
            Self::One(command) => {
                let mut both = Pipeline::new();
                both.cmd("ASKING").ignore().add_command(command.clone());
                first(both.query_async(&mut connection).await?)
            }
            Self::Together(commands) => first(commands.query_async(&mut connection).await?),
        }
    }
}

fn first(answers: Value) -> RedisResult<Value> {
    match answers {
        Value::Array(answers) => Ok(answers.into_iter().next().unwrap_or(Value::Nil)),
        answer => Ok(answer),
    }
}

/// What names the run, beside the data: a consumer recognises a repetition by it, and a late one.
fn run_fields(call: &Call<'_>) -> [(&'static str, String); 5] {
    [
        ("run_id", call.run.id.to_string()),
        ("schedule_id", call.run.schedule_id.to_string()),
        ("attempt", call.run.attempt.to_string()),
        ("scheduled_at", call.scheduled_at()),
        ("fencing_token", call.run.lease_token.to_string()),
    ]
}

/// What an answer that is no error means.
pub(super) fn judge(call: &Call<'_>, answer: &Value) -> Result<Answer, Outcome> {
    let connection = &call.definition.task.connection;
    if connection.mode.unwrap_or_default() != RedisMode::Publish {
        return Ok(Outcome::new(OutcomeCode::Ok, String::new()).into());
    }
    let receivers = match answer {
        Value::Int(receivers) => *receivers,
        _ => 0,
    };
    match receivers {
        0 if connection.require_receiver => {
            Err(Outcome::new(OutcomeCode::NoReceiver, "published, and nobody listened"))
        }
        0 => Ok(Outcome::new(OutcomeCode::Ok, "published, and nobody listened").into()),
        1 => Ok(Outcome::new(OutcomeCode::Ok, "published to 1 receiver").into()),
        _ => Ok(Outcome::new(OutcomeCode::Ok, format!("published to {receivers} receivers")).into()),
    }
}
