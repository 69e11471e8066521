//! Keys of the API and what applications have, on PostgreSQL.

use std::ops::Range;

use uuid::Uuid;

use super::link::Link;
use super::{PostgresStore, sql};
use crate::model::UnixMs;
use crate::store::rows::api_key;
use crate::store::{ApiKey, StoreError, Usage};
use sqlx::Row;

impl PostgresStore {
    pub(super) async fn create_key(&self, link: &mut Link, key: &ApiKey) -> Result<(), StoreError> {
        let create = sqlx::query(sql::API_KEY_CREATE)
            .bind(key.id)
            .bind(&key.digest)
            .bind(key.scope.as_str())
            .bind(&key.application)
            .bind(&key.name)
            .bind(key.created_at)
            .bind(key.expires_at);
        link.execute(create).await?;
        Ok(())
    }

    pub(super) async fn key(&self, link: &mut Link, id: Uuid) -> Result<Option<ApiKey>, StoreError> {
        let row = link.optional(sqlx::query(sql::API_KEY_GET).bind(id)).await?;
        row.as_ref().map(api_key).transpose()
    }

    pub(super) async fn keys(&self, link: &mut Link) -> Result<Vec<ApiKey>, StoreError> {
        let rows = link.all(sqlx::query(sql::API_KEY_LIST)).await?;
        rows.iter().map(api_key).collect()
    }

    pub(super) async fn revoke_key(&self, link: &mut Link, id: Uuid) -> Result<bool, StoreError> {
        let now = self.now(link).await?;
        Ok(link.execute(sqlx::query(sql::API_KEY_REVOKE).bind(id).bind(now)).await? == 1)
    }

    pub(super) async fn any_key(&self, link: &mut Link) -> Result<bool, StoreError> {
        Ok(link.value(sqlx::query(sql::API_KEY_EXISTS)).await?)
    }

    pub(super) async fn usage(
        &self,
        link: &mut Link,
        application: &str,
        due: Range<UnixMs>,
        limit: i64,
    ) -> Result<Usage, StoreError> {
        let usage = sqlx::query(sql::APPLICATION_USAGE).bind(application).bind(due.start).bind(due.end).bind(limit);
        let row = link.one(usage).await?;
        Ok(Usage { schedules: row.try_get("schedules")?, due: row.try_get("due")? })
    }
}
