//! The `task` object: what to do, and what to do when that fails.

use std::ops::RangeInclusive;

use serde_json::Value;
use serde_json::value::RawValue;

use super::Defaults;
use super::connection;
use super::fields::Fields;
use super::scalar::{Refusal, Scalar, boolean, integer, number, word};
use crate::model::task::{Backoff, DEFAULT_RETRY_WAIT_S, MAX_TIMEOUT_S, RawJson, RetryShape, Task, TaskKind};

const KINDS: [&str; 3] = ["rest", "kafka", "redis"];
const POLICIES: [&str; 3] = ["ignore", "retry", "retry_dlq"];
const DELIVERIES: [&str; 2] = ["at_least_once", "at_most_once"];
const BACKOFFS: [&str; 2] = ["fixed", "exponential"];
const MAX_WAIT_S: i64 = 31_536_000; // 365 days
const RETRY_COUNT: RangeInclusive<i64> = -1..=1_000_000;
const DEFAULT_FACTOR: f64 = 2.0;
const MAX_DATA_DEPTH: usize = 32;
/// What the server writes into the documents it returns; accepted back and left out.
const SERVER_MANAGED: [&str; 6] = ["status", "next", "iteration", "retry_count", "retry_until", "last_run"];

/// `None` only when an error is noted; every field is read before that is decided.
pub(super) fn read(mut task: Fields<'_>, defaults: &Defaults) -> Option<Task> {
    let kind = task.required("type", word::<TaskKind>(&KINDS));
    if kind.is_some_and(|kind| !defaults.targets.contains(&kind)) {
        task.refuse("type", Refusal::new("target_unavailable", "is a target this server cannot call"));
    }
    let connection = task.required_object("connection").map(|fields| connection::read(fields, kind, defaults));
    let data = task.optional_raw("data").map(|data| task.noting("data", raw_json(data)));
    let history_check = task.optional("history_check", boolean);
    let failed_policy = task.optional("failed_policy", word(&POLICIES));
    // The published client of the reference service sends `retry_period`.
    let retry_period = task.optional("retry_period", integer(0..=MAX_WAIT_S));
    let retry_wait = task.optional("retry_wait", integer(0..=MAX_WAIT_S)).or(retry_period);
    let max_retry_count = task.optional("max_retry_count", integer(RETRY_COUNT));
    let retry = task.optional_object("retry").map(retry_shape);
    let timeout = task.optional("timeout", timeout());
    let delivery = task.optional("delivery", word(&DELIVERIES));
    task.finish(&SERVER_MANAGED);

    Some(Task {
        kind: kind?,
        connection: connection??,
        data: data.unwrap_or_else(|| Some(RawJson::default()))?,
        history_check: history_check.unwrap_or_default(),
        failed_policy: failed_policy.unwrap_or_default(),
        retry_wait: retry_wait.unwrap_or(DEFAULT_RETRY_WAIT_S),
        max_retry_count,
        retry,
        timeout,
        delivery: delivery.unwrap_or_default(),
    })
}

fn timeout() -> impl Fn(Scalar<'_>) -> Result<f64, Refusal> {
    number(
        |seconds| seconds > 0.0 && seconds <= MAX_TIMEOUT_S,
        format!("more than 0 and at most {MAX_TIMEOUT_S} seconds"),
    )
}

fn retry_shape(mut retry: Fields<'_>) -> RetryShape {
    let shape = RetryShape {
        backoff: retry.optional("backoff", word(&BACKOFFS)).unwrap_or(Backoff::Fixed),
        factor: retry
            .optional("factor", number(|factor| (1.0..=10.0).contains(&factor), "from 1 to 10"))
            .unwrap_or(DEFAULT_FACTOR),
        max_wait: retry.optional("max_wait", integer(1..=MAX_WAIT_S)),
        jitter: retry
            .optional("jitter", number(|share| (0.0..=1.0).contains(&share), "from 0 to 1"))
            .unwrap_or_default(),
    };
    retry.finish(&[]);
    shape
}

/// Data that every reader of the document can decode: the text is kept, so what fails here would fail
/// again each time the document is shown.
fn raw_json(data: &RawValue) -> Result<RawJson, Refusal> {
    if nesting(data.get()) > MAX_DATA_DEPTH {
        return Err(Refusal::new("depth", format!("is nested more than {MAX_DATA_DEPTH} levels deep")));
    }
    serde_json::from_str::<Value>(data.get()).map_err(|error| Refusal::format(format!("cannot be read: {error}")))?;
    Ok(RawJson(data.to_owned()))
}

/// Deepest nesting of arrays and objects of a text that is known to be JSON. Counted, not descended into:
/// the text may be nested deeper than the stack.
fn nesting(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut in_string = false;
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => _ = bytes.next(),
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}
