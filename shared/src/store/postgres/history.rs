//! The history on PostgreSQL: read. It is written by the statements whose commits it tells of.

use super::PostgresStore;
use crate::store::StoreError;
use crate::store::history::{HistoryFilter, HistoryPage, HistoryRow, history_row, history_select};

impl PostgresStore {
    pub(super) async fn history(
        &self,
        filter: &HistoryFilter,
        page: &HistoryPage,
    ) -> Result<Vec<HistoryRow>, StoreError> {
        self.statements.count(3);
        let mut select = history_select(filter, page);
        // Planned each time, for what is asked: a plan for any application cannot know a rare one from a common one.
        let mut transaction = self.pool.begin_with("BEGIN; SET LOCAL plan_cache_mode = force_custom_plan").await?;
        let rows = select.build().persistent(false).fetch_all(&mut *transaction).await?;
        transaction.commit().await?;
        rows.iter().map(history_row).collect()
    }
}
