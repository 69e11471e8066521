//! The throwaway PostgreSQL: databases apart, statements counted, crash and return.

use reveille_testkit::Postgres;
use sqlx::{Connection, PgConnection};

#[tokio::test]
async fn databases_are_apart() {
    let server = Postgres::shared().await;
    let (first, second) = tokio::join!(server.fresh_database(), server.fresh_database());
    assert_ne!(first, second);
    let mut first = PgConnection::connect(&first).await.unwrap();
    let mut second = PgConnection::connect(&second).await.unwrap();
    sqlx::query("CREATE TABLE mine (id int)").execute(&mut first).await.unwrap();
    assert!(sqlx::query("SELECT * FROM mine").execute(&mut second).await.is_err());
}

#[tokio::test]
async fn counts_the_statements_of_one_role() {
    let server = Postgres::shared().await;
    let url = server.fresh_database().await;
    let (busy, idle) = (server.fresh_role().await, server.fresh_role().await);
    let mut connection = PgConnection::connect(&server.url_as(&url, &busy)).await.unwrap();
    let before = server.statement_count(&busy).await;
    for _ in 0..3 {
        sqlx::query("SELECT 41 + 1").execute(&mut connection).await.unwrap();
    }
    let connected_only = PgConnection::connect(&server.url_as(&url, &idle)).await.unwrap();
    assert_eq!(server.statement_count(&busy).await - before, 3, "{:?}", server.statements(&busy).await);
    let idle_before = server.statement_count(&idle).await;
    assert_eq!(server.statement_count(&idle).await, idle_before);
    drop(connected_only);
}

#[tokio::test]
async fn committed_rows_survive_a_crash() {
    let server = Postgres::start().await;
    let url = server.fresh_database().await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::query("CREATE TABLE kept AS SELECT 7 AS id").execute(&mut connection).await.unwrap();

    server.kill();
    assert!(sqlx::query("SELECT 1").execute(&mut connection).await.is_err(), "the old connection is broken");
    assert!(PgConnection::connect(&url).await.is_err(), "nobody listens");

    server.restart().await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let id: i32 = sqlx::query_scalar("SELECT id FROM kept").fetch_one(&mut connection).await.unwrap();
    assert_eq!(id, 7);
}

#[tokio::test]
async fn further_settings_win() {
    let server = Postgres::start_with(&["fsync=on"]).await;
    let mut connection = PgConnection::connect(&server.fresh_database().await).await.unwrap();
    let fsync: String = sqlx::query_scalar("SHOW fsync").fetch_one(&mut connection).await.unwrap();
    assert_eq!(fsync, "on");
}
