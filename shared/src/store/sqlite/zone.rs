//! What is armed, and by which rules of time zones, on SQLite.

use uuid::Uuid;

use super::{SqliteStore, sql};
use crate::model::{RunId, ScheduleId, UnixMs};
use crate::store::rows::{zone_page, zoned};
use crate::store::{StoreError, ZoneMove, ZonePage, Zoned};

impl SqliteStore {
    pub(super) async fn examine_zones(
        &self,
        rules: i32,
        after: Option<ScheduleId>,
        limit: i64,
    ) -> Result<ZonePage, StoreError> {
        self.statements.count(1);
        let page = sqlx::query(sql::ZONE_EXAMINE).bind(after.unwrap_or(Uuid::nil())).bind(limit).bind(rules);
        zone_page(&page.fetch_all(&self.readers).await?)
    }

    pub(super) async fn unsure_zones(&self, limit: i64) -> Result<Vec<Zoned>, StoreError> {
        self.statements.count(1);
        let rows = sqlx::query(sql::ZONE_UNSURE).bind(limit).fetch_all(&self.readers).await?;
        rows.iter().map(zoned).collect()
    }

    pub(super) async fn move_zoned(&self, change: &ZoneMove) -> Result<Option<UnixMs>, StoreError> {
        let (mut transaction, now) = self.begin().await?;
        let due_at = change.to.max(now);
        let moved = sqlx::query(sql::ZONE_MOVE)
            .bind(change.id)
            .bind(change.revision)
            .bind(change.run_id)
            .bind(change.to)
            .bind(due_at)
            .bind(now)
            .bind(change.rules)
            .execute(&mut *transaction)
            .await?;
        if moved.rows_affected() == 0 {
            return Ok(None);
        }
        let told = sqlx::query(sql::ZONE_TELL).bind(change.id).bind(now).bind(change.run_id).bind(change.sentence());
        told.execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(Some(due_at))
    }

    pub(super) async fn mark_sure(&self, runs: &[RunId], rules: i32) -> Result<(), StoreError> {
        let (mut transaction, _) = self.begin().await?;
        for run in runs {
            sqlx::query(sql::ZONE_SURE).bind(run).bind(rules).execute(&mut *transaction).await?;
        }
        transaction.commit().await
    }

    pub(super) async fn mark_rules(&self, statement: &'static str, rules: i32) -> Result<(), StoreError> {
        let (mut transaction, _) = self.begin().await?;
        sqlx::query(statement).bind(rules).execute(&mut *transaction).await?;
        transaction.commit().await
    }
}
