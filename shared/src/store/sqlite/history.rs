//! The history on SQLite: read. It is written in the transactions it tells of.

use super::SqliteStore;
use crate::store::StoreError;
use crate::store::history::{HistoryFilter, HistoryPage, HistoryRow, history_row, history_select};

impl SqliteStore {
    pub(super) async fn history(
        &self,
        filter: &HistoryFilter,
        page: &HistoryPage,
    ) -> Result<Vec<HistoryRow>, StoreError> {
        self.statements.count(1);
        let mut select = history_select(filter, page);
        let rows = select.build().persistent(false).fetch_all(&self.readers).await?;
        rows.iter().map(history_row).collect()
    }
}
