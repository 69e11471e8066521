//! Keys of the API and what applications have, on SQLite.

use std::ops::Range;

use uuid::Uuid;

use super::{SqliteStore, sql};
use crate::model::UnixMs;
use crate::store::rows::api_key;
use crate::store::{ApiKey, StoreError, Usage};
use sqlx::Row;

impl SqliteStore {
    pub(super) async fn create_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        self.statements.count(1);
        sqlx::query(sql::API_KEY_CREATE)
            .bind(key.id)
            .bind(&key.digest)
            .bind(key.scope.as_str())
            .bind(&key.application)
            .bind(&key.name)
            .bind(key.created_at)
            .bind(key.expires_at)
            .execute(&self.writer.pool)
            .await?;
        Ok(())
    }

    pub(super) async fn key(&self, id: Uuid) -> Result<Option<ApiKey>, StoreError> {
        self.statements.count(1);
        let row = sqlx::query(sql::API_KEY_GET).bind(id).fetch_optional(&self.readers).await?;
        row.as_ref().map(api_key).transpose()
    }

    pub(super) async fn keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        self.statements.count(1);
        let rows = sqlx::query(sql::API_KEY_LIST).fetch_all(&self.readers).await?;
        rows.iter().map(api_key).collect()
    }

    pub(super) async fn revoke_key(&self, id: Uuid) -> Result<bool, StoreError> {
        let now = self.now().await?;
        self.statements.count(1);
        let revoked = sqlx::query(sql::API_KEY_REVOKE).bind(id).bind(now).execute(&self.writer.pool).await?;
        Ok(revoked.rows_affected() == 1)
    }

    pub(super) async fn any_key(&self) -> Result<bool, StoreError> {
        self.statements.count(1);
        Ok(sqlx::query_scalar(sql::API_KEY_EXISTS).fetch_one(&self.readers).await?)
    }

    pub(super) async fn usage(&self, application: &str, due: Range<UnixMs>, limit: i64) -> Result<Usage, StoreError> {
        self.statements.count(1);
        let row = sqlx::query(sql::APPLICATION_USAGE)
            .bind(application)
            .bind(due.start)
            .bind(due.end)
            .bind(limit)
            .fetch_one(&self.readers)
            .await?;
        Ok(Usage { schedules: row.try_get("schedules")?, due: row.try_get("due")? })
    }
}
