//! Sealing stored definitions anew, on both databases.

use reveille_shared::store::{Change, Selection};

use crate::store_conformance::{Fixture, START, cron, now, registration};

/// Makes each of these bodies a test on both databases.
macro_rules! on_both {
    ($($body:ident),* $(,)?) => {
        mod sqlite { $(#[tokio::test] async fn $body() { super::$body(super::Fixture::sqlite().await).await; })* }
        mod postgres { $(#[tokio::test] async fn $body() { super::$body(super::Fixture::postgres().await).await; })* }
    };
}

on_both! {
    seals_anew_what_did_not_move_on,
}

async fn seals_anew_what_did_not_move_on(f: Fixture) {
    let ids = [
        f.register(registration("a", "1", cron(START + 10))).await,
        f.register(registration("b", "1", cron(START + 10))).await,
        f.register(registration("c", "1", now())).await,
    ];
    f.store.schedule_delete(&Selection::Id(ids[2])).await.unwrap();
    let mut read = f.store.schedule_payloads(None, 2).await.unwrap();
    assert_eq!(read.iter().map(|stored| stored.id).collect::<Vec<_>>(), ids[..2]);
    assert_eq!((read[0].revision, read[0].fingerprint.as_str()), (1, "1"));
    let rest = f.store.schedule_payloads(Some(ids[1]), 2).await.unwrap();
    assert_eq!(rest.iter().map(|stored| stored.id).collect::<Vec<_>>(), ids[2..], "deleted ones too");
    assert_eq!(f.store.schedule_payloads(Some(ids[2]), 2).await.unwrap(), []);

    // One is changed between reading and writing.
    f.register(registration("b", "2", cron(START + 20))).await;
    let before = f.store.schedule_get(ids[0]).await.unwrap().unwrap();
    f.now.advance(5);
    for stored in &mut read {
        (stored.payload, stored.fingerprint) = ("\"anew\"".to_owned(), "9".to_owned());
    }
    assert_eq!(f.store.schedule_reseal(&read).await.unwrap(), 1);
    let after = f.store.schedule_get(ids[0]).await.unwrap().unwrap();
    assert_eq!((after.payload.as_str(), after.revision, after.updated_at), ("\"anew\"", 1, before.updated_at));
    assert_ne!(f.store.schedule_get(ids[1]).await.unwrap().unwrap().payload, "\"anew\"");
    let same = f.store.schedule_upsert(&[registration("a", "9", cron(START + 10))]).await.unwrap();
    assert_eq!(same.schedules[0].change, Change::Unchanged, "by the new fingerprint");
    assert_eq!(f.store.schedule_reseal(&[]).await.unwrap(), 0);
}
