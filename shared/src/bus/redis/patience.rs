//! How long Redis is waited for.

use std::future::Future;
use std::time::Duration;

use ::redis::{RedisError, RedisResult};

/// For name resolution, TCP, TLS and AUTH together.
pub(super) const DIAL_LIMIT: Duration = Duration::from_secs(2);
/// For one answer.
pub(super) const REPLY_LIMIT: Duration = Duration::from_secs(1);
/// `work`, or a timeout error after `limit`.
pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => Err(RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut))),
    }
}
