//! The receiver: what it records, what it can be made to do, and that it is fast enough.

use std::time::{Duration, Instant};

use reveille_testkit::{Answer, Receiver, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::DEADLINE;

fn client() -> reqwest::Client {
    rustls::crypto::ring::default_provider().install_default().ok(); // reqwest asks for one, TLS or not
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

#[tokio::test]
async fn records_what_arrives() {
    let receiver = Receiver::start().await;
    let answer = client().put(receiver.url("/a/b?c=d")).header("x-run", "7").body(r#"{"n":1}"#).send().await.unwrap();
    assert_eq!(answer.status(), 200);

    let [delivery] = &receiver.wait_for(1, DEADLINE).await[..] else { panic!("exactly one") };
    assert_eq!((delivery.method.as_str(), delivery.path.as_str(), delivery.query.as_str()), ("PUT", "/a/b", "c=d"));
    assert_eq!((delivery.header("X-Run"), delivery.header("x-none")), ("7", ""));
    assert_eq!(delivery.json()["n"], 1);
    assert!(delivery.arrived_ms > 1_700_000_000_000);
    assert_eq!(receiver.deliveries_to("/a/b").len(), 1);
    assert_eq!(receiver.deliveries_to("/a").len(), 0);
}

#[tokio::test]
async fn answers_in_the_scripted_order_and_repeats_the_last() {
    let receiver = Receiver::start().await;
    receiver.script("/s", [Answer::status(503).retry_after(2), Answer::redirect("/other"), Answer::status(404)]);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let answer = client().post(receiver.url("/s")).send().await.unwrap();
        let headers = answer.headers();
        let header = headers.get("retry-after").or(headers.get("location")).map(|value| value.to_str().unwrap());
        statuses.push((answer.status().as_u16(), header.unwrap_or_default().to_owned()));
    }
    let expected = [(503, "2"), (307, "/other"), (404, ""), (404, "")];
    assert_eq!(statuses, expected.map(|(status, header)| (status, header.to_owned())));
    let orders: Vec<usize> = receiver.deliveries().iter().map(|delivery| delivery.order).collect();
    assert_eq!(orders, [0, 1, 2, 3]);
}

#[tokio::test]
async fn holds_answers_until_they_are_released() {
    let receiver = Receiver::start().await;
    receiver.script("/h", [Answer::hang()]);
    let url = receiver.url("/h");
    let post = || client().post(&url).send();
    let released_later = async {
        receiver.wait_for(2, DEADLINE).await;
        assert_eq!(receiver.in_flight("/h"), 2);
        receiver.release("/h");
    };
    let (first, second, ()) = tokio::join!(post(), post(), released_later);
    assert_eq!((first.unwrap().status(), second.unwrap().status()), (reqwest::StatusCode::OK, reqwest::StatusCode::OK));

    assert!(tokio::time::timeout(Duration::from_millis(100), post()).await.is_err(), "an earlier release is over");
    eventually(DEADLINE, "a client that hung up is not in flight", || async { receiver.in_flight("/h") == 0 }).await;
    assert_eq!(receiver.peak_in_flight("/h"), 2);
}

#[tokio::test]
async fn misbehaves_on_demand() {
    let receiver = Receiver::start().await;
    receiver.script("/close", [Answer::close()]);
    receiver.script("/huge", [Answer::ok().huge_body(3_000_000)]);
    receiver.script("/slow", [Answer::ok().after(Duration::from_millis(80))]);
    receiver.script("/stalled", [Answer::ok().body("half").stalled()]);

    assert!(client().get(receiver.url("/close")).send().await.is_err());
    let huge = client().get(receiver.url("/huge")).send().await.unwrap();
    assert_eq!(huge.bytes().await.unwrap().len(), 3_000_000);
    let asked = Instant::now();
    client().get(receiver.url("/slow")).send().await.unwrap();
    assert!(asked.elapsed() >= Duration::from_millis(80));
    let mut stalled = client().get(receiver.url("/stalled")).send().await.unwrap();
    assert_eq!(stalled.chunk().await.unwrap().unwrap(), "half");
    assert!(tokio::time::timeout(Duration::from_millis(100), stalled.chunk()).await.is_err());
    assert_eq!(receiver.count(), 4);
}

#[tokio::test]
#[should_panic(expected = "for 2 deliveries, 1 arrived: [\"GET /only\"]")]
async fn says_what_arrived_instead() {
    let receiver = Receiver::start().await;
    client().get(receiver.url("/only")).send().await.unwrap();
    receiver.wait_for(2, Duration::from_millis(10)).await;
}

/// Times are printed, not asserted: a loaded machine is not a bug. Run with `--nocapture` to see them.
#[tokio::test]
async fn records_thousands_over_few_connections() {
    const CONNECTIONS: usize = 16;
    const PER_CONNECTION: usize = 500;
    let receiver = Receiver::start().await;
    let began = Instant::now();
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        senders.spawn(send_pipelined(receiver.address(), PER_CONNECTION));
    }
    senders.join_all().await;
    let deliveries = receiver.wait_for(CONNECTIONS * PER_CONNECTION, DEADLINE).await;
    let rate = deliveries.len() as f64 / began.elapsed().as_secs_f64();
    assert_eq!(deliveries.len(), CONNECTIONS * PER_CONNECTION);
    println!("{rate:.0} requests/s");
}

/// A client that costs next to nothing, so that the receiver is what is measured.
async fn send_pipelined(address: std::net::SocketAddr, requests: usize) {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = b"POST /p HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
    let mut answer = [0; 4096];
    for _ in 0..requests {
        connection.write_all(request).await.unwrap();
        let length = connection.read(&mut answer).await.unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200"));
    }
}
