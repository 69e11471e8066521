//! The throwaway Redis: answers, freezes, dies, returns empty.

use std::time::Duration;

use reveille_testkit::{Redis, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::DEADLINE;

#[tokio::test]
async fn namespaces_differ() {
    let server = Redis::shared().await;
    assert_ne!(server.fresh_namespace(), server.fresh_namespace());
    assert!(server.url().ends_with(&server.port().to_string()));
}

#[tokio::test]
async fn returns_empty_on_the_same_port() {
    let server = Redis::start().await;
    assert_eq!(ask(&server, "SET k v").await, "+OK");
    assert_eq!(ask(&server, "EXISTS k").await, ":1");
    let url = server.url();

    server.kill();
    assert!(TcpStream::connect(("127.0.0.1", server.port())).await.is_err());

    server.restart().await;
    assert_eq!(server.url(), url);
    assert_eq!(ask(&server, "EXISTS k").await, ":0");
}

#[tokio::test]
async fn freezes_and_goes_on() {
    let server = Redis::start().await;
    server.stop();
    // The signal is delivered a moment later: until then it may still answer.
    eventually(DEADLINE, "a frozen server does not answer", || async {
        tokio::time::timeout(Duration::from_millis(100), ask(&server, "PING")).await.is_err()
    })
    .await;
    server.cont();
    assert_eq!(ask(&server, "PING").await, "+PONG");
}

#[tokio::test]
async fn a_frozen_server_can_be_dropped() {
    let server = Redis::start().await;
    server.stop();
    drop(server);
}

async fn ask(server: &Redis, command: &str) -> String {
    let mut connection = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    connection.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}
