//! The statements of the PostgreSQL store, public so that tests can `EXPLAIN` them.
//!
//! In all of them `$1` is the injected now, null in production. `statement_timestamp()` and not
//! `clock_timestamp()`, which defeats the indexes; `floor` and not a plain cast, which rounds up and
//! would fire half a millisecond early.
//!
//! A plan is part of a statement. The planner takes every CTE for a few rows, so nothing here joins two of them by
//! value: what belongs together is carried along in one row from the first read on, and tables are joined where
//! their rows are read or locked, by index, for one row of the batch after the other. [`super::PLANNER`] leaves it
//! nothing else, so that the plan is the same without statistics, with stale and with fresh ones.

/// The database's now in unix milliseconds.
macro_rules! clock {
    () => {
        "clock AS MATERIALIZED (
  SELECT coalesce($1::bigint, floor(extract(epoch FROM statement_timestamp()) * 1000)::bigint) AS now)"
    };
}

/// Tells the history what became of the schedules of `$from` (with their columns), in the same commit.
macro_rules! told {
    ($kind:literal, $run_id:literal, $from:literal) => {
        concat!(
            "told AS (
  INSERT INTO history (at, kind, schedule_id, run_id, application, client_group, client_key, operation, client_type, name,
                       revision)
  SELECT c.now, ",
            $kind,
            ", t.id, ",
            $run_id,
            ", t.application, t.client_group, t.client_key, t.operation, t.client_type, t.name, t.revision
    FROM ",
            $from,
            " t CROSS JOIN clock c WHERE t.history_check)"
        )
    };
}

mod run;
mod schedule;
mod wake;
mod zone;

pub use self::run::*;
pub use self::schedule::*;
pub use self::wake::*;
pub use self::zone::*;
use crate::store::history::{HistoryFilter, HistoryPage, history_select};
pub use crate::store::sql::*;

/// The statement that reads a page of the history, whose filters decide its text.
pub fn history_list(filter: &HistoryFilter, page: &HistoryPage) -> String {
    history_select::<sqlx::Postgres>(filter, page).sql().as_str().to_owned()
}
