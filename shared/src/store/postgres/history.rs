//! The history on PostgreSQL: read. It is written by the statements whose commits it tells of.

use super::PostgresStore;
use super::link::Link;
use crate::store::StoreError;
use crate::store::history::{HistoryFilter, HistoryPage, HistoryRow, history_row, history_select};

impl PostgresStore {
    pub(super) async fn history(
        &self,
        link: &mut Link,
        filter: &HistoryFilter,
        page: &HistoryPage,
    ) -> Result<Vec<HistoryRow>, StoreError> {
        let mut select = history_select(filter, page);
        // Planned each time, for what is asked: a plan for any application cannot know a rare one from a common one.
        link.begin("SET LOCAL plan_cache_mode = force_custom_plan").await?;
        let rows = link.all(select.build().persistent(false)).await?;
        rows.iter().map(history_row).collect()
    }
}
