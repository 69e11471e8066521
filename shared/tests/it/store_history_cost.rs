//! What reading a page of a million entries of history costs on PostgreSQL, by what is asked.

use reveille_shared::model::history::HistoryKind;
use reveille_shared::model::run::OutcomeCode;
use reveille_shared::store::postgres::sql;
use reveille_shared::store::{HistoryFilter, HistoryPage};
use reveille_testkit::Postgres;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::store_postgres::{buffers, store};

/// A million entries of 50 000 schedules in 1000 groups: of `common` nine tenths, the rest of a hundred other
/// applications; one in fifty a retry, one in a thousand timed out, one in ten thousand a deletion.
/// The indexes are put back afterwards, which is quicker than filling them.
const FILL: &str = "
DO $$
DECLARE definitions text[];
BEGIN
  SELECT array_agg(indexdef) INTO definitions FROM pg_indexes WHERE tablename = 'history' AND indexname <> 'history_pkey';
  EXECUTE (SELECT string_agg('DROP INDEX ' || indexname, ';') FROM pg_indexes
            WHERE tablename = 'history' AND indexname <> 'history_pkey');
  INSERT INTO history (at, kind, schedule_id, run_id, application, client_group, client_key, operation, client_type, name,
                       revision, attempt, outcome, state, http_status, lag_ms, duration_ms, detail, worker)
  SELECT 1700000000000 + n, CASE WHEN n % 10000 = 7 THEN 8 WHEN n % 50 = 1 THEN 3 ELSE 2 END,
         ('00000000-0000-0000-0000-' || lpad((n % 50000)::text, 12, '0'))::uuid,
         ('00000000-0000-0000-0001-' || lpad((n / 2)::text, 12, '0'))::uuid,
         CASE WHEN n % 10 = 3 THEN 'rare' || (n / 10 % 100) ELSE 'common' END, 'group' || (n % 1000),
         (n % 50000)::text, 'op' || (n % 4), 'type', 'name', 1, 1, CASE WHEN n % 1000 = 11 THEN 'timeout' ELSE 'ok' END,
         2, 200, 5, 20, '', 'worker' FROM generate_series(1, 1000000) n;
  EXECUTE array_to_string(definitions, ';');
END $$";

#[tokio::test(flavor = "multi_thread")]
async fn a_page_costs_by_its_length_and_not_by_the_table() {
    let url = Postgres::shared().await.fresh_database().await;
    store(&url).await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(FILL).execute(&mut connection).await.unwrap();
    sqlx::raw_sql("VACUUM ANALYZE history").execute(&mut connection).await.unwrap();

    let any = HistoryFilter::default;
    let text = || Some(String::new());
    let id = Some(Uuid::nil());
    let common = "'common'";
    let schedule = "'00000000-0000-0000-0000-000000000123'";
    let asked = [
        ("everything", any(), String::new()),
        ("common application", HistoryFilter { application: text(), ..any() }, common.to_owned()),
        ("rare application", HistoryFilter { application: text(), ..any() }, "'rare7'".to_owned()),
        ("nobody's application", HistoryFilter { application: text(), ..any() }, "'nobody'".to_owned()),
        ("group", HistoryFilter { group: text(), ..any() }, "'group77'".to_owned()),
        ("key", HistoryFilter { key: text(), ..any() }, "'4711'".to_owned()),
        ("nobody's key", HistoryFilter { key: text(), ..any() }, "'nobody'".to_owned()),
        ("schedule", HistoryFilter { schedule_id: id, ..any() }, schedule.to_owned()),
        ("run", HistoryFilter { run_id: id, ..any() }, "'00000000-0000-0000-0001-000000000123'".to_owned()),
        ("executions", HistoryFilter { kind: Some(HistoryKind::Executed), ..any() }, String::new()),
        ("retries", HistoryFilter { kind: Some(HistoryKind::Reexecuted), ..any() }, String::new()),
        ("deletions", HistoryFilter { kind: Some(HistoryKind::Deleted), ..any() }, String::new()),
        ("pauses, of which there is none", HistoryFilter { kind: Some(HistoryKind::Paused), ..any() }, String::new()),
        ("timeouts", HistoryFilter { outcome: Some(OutcomeCode::Timeout), ..any() }, String::new()),
        (
            "refusals, of which there is none",
            HistoryFilter { outcome: Some(OutcomeCode::Refused), ..any() },
            String::new(),
        ),
        (
            "timeouts of a common application in a window",
            HistoryFilter {
                application: text(),
                outcome: Some(OutcomeCode::Timeout),
                from: Some(0),
                to: Some(0),
                ..any()
            },
            format!("{common}, 1700000200000, 1700000800000"),
        ),
        (
            "group of an application",
            HistoryFilter { application: text(), group: text(), ..any() },
            "'common', 'group77'".to_owned(),
        ),
        ("operation", HistoryFilter { operation: text(), ..any() }, "'op2'".to_owned()),
        ("window", HistoryFilter { from: Some(0), to: Some(0), ..any() }, "1700000200000, 1700000800000".to_owned()),
        (
            "executions of a schedule",
            HistoryFilter { schedule_id: id, kind: Some(HistoryKind::Executed), ..any() },
            schedule.to_owned(),
        ),
    ];
    for (what, filter, values) in asked {
        for after in [None, Some((0, 0))] {
            let page = HistoryPage { after, ascending: false, limit: 51 };
            let middle = if after.is_some() { ["1700000500000", "500000"].as_slice() } else { &[] };
            let values: Vec<&str> =
                [values.as_str()].into_iter().filter(|text| !text.is_empty()).chain(middle.iter().copied()).collect();
            let parameters = if values.is_empty() { String::new() } else { values.join(", ") };
            let cost = cost(&mut connection, &sql::history_list(&filter, &page), &parameters).await;
            println!("{cost:5} buffers for a page of {what}{}", if after.is_some() { " from the middle" } else { "" });
            assert!(cost <= 100, "{cost} buffers for a page of {what}, after {after:?}");
        }
    }
}

async fn cost(connection: &mut PgConnection, statement: &str, parameters: &str) -> i64 {
    let types = vec!["unknown"; if parameters.is_empty() { 0 } else { parameters.split(", ").count() }].join(", ");
    buffers(connection, statement, "h", &types, parameters).await
}
