//! `eventually` ends with the condition, and fails with what it waited for.

use std::cell::Cell;
use std::time::Duration;

use reveille_testkit::{eventually, eventually_some};

use crate::DEADLINE;

#[tokio::test]
async fn returns_the_value_as_soon_as_there_is_one() {
    let tries = Cell::new(0);
    let value = eventually_some(DEADLINE, "the third try", || async {
        tries.set(tries.get() + 1);
        (tries.get() == 3).then_some("third")
    })
    .await;
    assert_eq!((value, tries.get()), ("third", 3));
}

#[tokio::test]
#[should_panic(expected = "tests/kit/tests/it/eventually.rs")]
async fn says_where_it_waited() {
    eventually(Duration::from_millis(5), "the impossible", || async { false }).await;
}

#[tokio::test]
#[should_panic(expected = "the impossible")]
async fn says_what_it_waited_for() {
    eventually(Duration::from_millis(5), "the impossible", || async { false }).await;
}

#[tokio::test]
async fn tries_once_after_the_deadline() {
    eventually(Duration::ZERO, "what holds already", || async { true }).await;
}
