//! Whether tasks may call the loopback interface hangs on where the process itself listens.

use reveille_testkit::{Process, Receiver, eventually_some};

use crate::cluster::{Client, SOON, document};

/// How a call to a receiver on loopback ends, for a process started with these arguments.
async fn check(args: &[&str], expected: &str) {
    let receiver = Receiver::start().await;
    let data = tempfile::tempdir().expect("a folder");
    let process = Process::builder(env!("CARGO_BIN_EXE_reveille"))
        .args(["serve", "--data-dir", data.path().to_str().expect("text")])
        .args(args)
        .with_ready_file()
        .start();
    let listen = process.wait_ready(SOON).await.listen.expect("an API listener");
    let api = Client::new(&listen.replace("0.0.0.0", "127.0.0.1"));
    let id = api.register(&document(&receiver, "1", "now", "")).await;
    let ended = eventually_some(SOON, "the run is over", || async {
        api.runs(&id).await.into_iter().find(|run| run["outcome"].is_string())
    });
    assert_eq!(ended.await["outcome"], expected, "{args:?}");
    assert_eq!(receiver.count(), usize::from(expected == "ok"), "{args:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn loopback_is_open_to_those_who_listen_there_alone() {
    let (inside, outside) = ("127.0.0.1:0", "0.0.0.0:0");
    check(&["--listen", inside], "ok").await;
    check(&["--listen", outside, "--insecure-listen"], "refused").await;
    check(&["--listen", inside, "--ops-listen", outside], "refused").await;
    check(&["--listen", outside, "--insecure-listen", "--targets-allow", "127.0.0.0/8,::1"], "ok").await;
    check(&["--listen", inside, "--targets-deny", "127.0.0.0/8,::1"], "refused").await;
}
