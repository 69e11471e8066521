//! What migrations make of rows that are there already.

use reveille_testkit::Postgres;
use sqlx::{Connection, PgConnection, SqliteConnection};

/// Payloads of stored schedules, and whether their history is kept.
const PAYLOADS: [(&str, bool); 6] = [
    (r#"{"task":{"data":{},"history_check":true}}"#, true),
    (r#"{"task":{"data":{},"history_check":false}}"#, false),
    (r#"{"task":{"data":{"history_check":true},"history_check":false}}"#, false),
    (r#"{"task":{"data":"a\u0000b","history_check":true}}"#, true),
    (
        r#"{"task":{"data":"\ud800 \"history_check\":true","history_check":false,"failed_policy":"retry"},"queue":"q"}"#,
        false,
    ),
    (r#"{"task":{"data":{}}}"#, false),
];

/// The schedules before the history came, one for each payload.
macro_rules! insert {
    ($id:literal) => {
        concat!(
            "INSERT INTO schedules (id, application, client_group, client_key, operation, client_type, name, state, revision,
                                    series, iterations, fingerprint, payload, queue, priority, created_at, updated_at)
             VALUES (",
            $id,
            ", 'app', '', $1, '', '', '', 0, 1, 0, 0, '', $2, 'default', 0, 0, 0)"
        )
    };
}

macro_rules! check_upgrade {
    ($connection:expr, $folder:literal, $id:literal) => {
        let mut connection = $connection;
        sqlx::raw_sql(include_str!(concat!("../../../migrations/", $folder, "/0001_core.sql")))
            .execute(&mut connection)
            .await
            .unwrap();
        for (number, (payload, _)) in PAYLOADS.iter().enumerate() {
            let insert = sqlx::query(insert!($id)).bind(number.to_string()).bind(*payload);
            insert.execute(&mut connection).await.unwrap();
        }
        sqlx::raw_sql(include_str!(concat!("../../../migrations/", $folder, "/0002_history.sql")))
            .execute(&mut connection)
            .await
            .unwrap();
        let kept: Vec<bool> = sqlx::query_scalar("SELECT history_check FROM schedules ORDER BY client_key")
            .fetch_all(&mut connection)
            .await
            .unwrap();
        assert_eq!(kept, PAYLOADS.map(|(_, kept)| kept));
    };
}

#[tokio::test]
async fn stored_schedules_that_ask_for_history_get_it_on_sqlite() {
    check_upgrade!(SqliteConnection::connect("sqlite::memory:").await.unwrap(), "sqlite", "randomblob(16)");
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_schedules_that_ask_for_history_get_it_on_postgres() {
    let url = Postgres::shared().await.fresh_database().await;
    check_upgrade!(PgConnection::connect(&url).await.unwrap(), "postgres", "gen_random_uuid()");
}
