//! What is armed, and by which rules of time zones, on PostgreSQL.

use uuid::Uuid;

use super::link::Link;
use super::{PostgresStore, sql};
use crate::model::{RunId, ScheduleId, UnixMs};
use crate::store::rows::{zone_page, zoned};
use crate::store::{StoreError, ZoneMove, ZonePage, Zoned};

impl PostgresStore {
    pub(super) async fn examine_zones(
        &self,
        link: &mut Link,
        rules: i32,
        after: Option<ScheduleId>,
        limit: i64,
    ) -> Result<ZonePage, StoreError> {
        let after = after.unwrap_or(Uuid::nil());
        let rows = link.all(sqlx::query(sql::ZONE_EXAMINE).bind(after).bind(limit).bind(rules)).await?;
        zone_page(&rows)
    }

    pub(super) async fn unsure_zones(&self, link: &mut Link, limit: i64) -> Result<Vec<Zoned>, StoreError> {
        let rows = link.all(sqlx::query(sql::ZONE_UNSURE).bind(limit)).await?;
        rows.iter().map(zoned).collect()
    }

    pub(super) async fn move_zoned(&self, link: &mut Link, change: &ZoneMove) -> Result<Option<UnixMs>, StoreError> {
        let moving = sqlx::query(sql::ZONE_MOVE)
            .bind(self.injected_now())
            .bind(change.id)
            .bind(change.revision)
            .bind(change.run_id)
            .bind(change.to)
            .bind(change.rules)
            .bind(change.sentence());
        Ok(link.optional_value(moving).await?)
    }

    pub(super) async fn mark_sure(&self, link: &mut Link, runs: &[RunId], rules: i32) -> Result<(), StoreError> {
        link.execute(sqlx::query(sql::ZONE_SURE).bind(runs).bind(rules)).await?;
        Ok(())
    }

    pub(super) async fn mark_rules(
        &self,
        link: &mut Link,
        statement: &'static str,
        rules: i32,
    ) -> Result<(), StoreError> {
        link.execute(sqlx::query(statement).bind(rules)).await?;
        Ok(())
    }
}
