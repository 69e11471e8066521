//! `doctor` and `GET /workers`, asked about a deployment in which things are amiss.

use reveille_testkit::{Process, eventually_some, free_port};
use serde_json::{Value, json};

use super::{Cluster, PATIENT, SOON, date_in};

/// What `doctor` says, by subject.
async fn findings(cluster: &Cluster) -> (Option<i32>, Value) {
    let doctor = Process::builder(env!("CARGO_BIN_EXE_reveille"))
        .args(["doctor", "--json", "--database-url", &cluster.database, "--redis-url", &cluster.redis.url()])
        .args(PATIENT)
        .start();
    let status = doctor.wait_exit(SOON).await;
    let said: Vec<Value> = serde_json::from_str(&doctor.stdout()).expect("findings as JSON");
    let by_subject =
        said.into_iter().map(|finding| (finding["subject"].as_str().expect("a subject").to_owned(), finding));
    (status.code(), Value::Object(by_subject.collect()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_amiss_is_named_with_its_cause() {
    let cluster = Cluster::start(PATIENT).await;
    let (status, alone) = findings(&cluster).await;
    assert_eq!(status, Some(1));
    assert_eq!(alone["workers"]["ok"], false, "{alone}");
    assert_eq!(alone["monitor"]["ok"], false, "{alone}");
    assert_eq!(alone["redis"]["ok"], true, "{alone}");

    let _monitor = cluster.monitor(PATIENT).await;
    let worker = cluster.worker(&[PATIENT, &["--worker-name", "w1", "--concurrency", "7"]].concat()).await;
    let well = eventually_some(SOON, "all is well", || async {
        let (status, said) = findings(&cluster).await;
        (status == Some(0)).then_some(said)
    })
    .await;
    assert_eq!(well["workers"]["finding"], "1 with 7 slots, 0 busy: w1");
    assert!(well.as_object().expect("subjects").values().all(|finding| finding.get("advice").is_none()), "{well}");

    let away = format!("http://127.0.0.1:{}", free_port());
    let mut dead = cluster.document("dead", "cron", "* * * * * *");
    dead["task"]["connection"]["host"] = json!(format!("{away}/dead"));
    let id = cluster.client.register(&dead).await;
    let mut unserved = cluster.document("unserved", "date", &date_in(3_600_000));
    unserved["queue"] = json!("nobody");
    cluster.client.register(&unserved).await;
    // The worker tells what it found out at its next turn.
    let workers = eventually_some(SOON, "the worker tells which target is away", || async {
        let workers = cluster.client.get("/workers").await;
        (workers[0]["targets"] != json!([])).then_some(workers)
    })
    .await;
    assert_eq!(workers[0]["targets"], json!([{"target": away, "kind": "away"}]), "{workers}");
    assert_eq!((&workers[0]["name"], &workers[0]["slots"]), (&json!("w1"), &json!(7)));
    assert_eq!(workers[0]["queues"], json!(["default"]));

    let (status, ill) = findings(&cluster).await;
    assert_eq!(status, Some(1), "{ill}");
    let said = |subject: &str| ill[subject]["finding"].as_str().expect("a finding").to_owned();
    assert_eq!(said("queues"), "no worker serves nobody, where runs are pending");
    assert_eq!(said("targets"), format!("away: {away}"));
    assert_eq!(said("failures"), format!("1 recurring schedule failed when it ran last: {id}"));
    assert_eq!((&ill["failures"]["ok"], &ill["targets"]["ok"]), (&json!(true), &json!(true)), "nothing is wrong here");

    worker.process.sigterm();
    worker.process.wait_exit(SOON).await;
    assert_eq!(cluster.client.get("/workers").await, json!([]), "who ends says so");
    assert_eq!(findings(&cluster).await.1["workers"]["ok"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_refuse_connections_are_said_to() {
    let nobody = free_port();
    let database = format!("postgres://somebody@127.0.0.1:{nobody}/nothing");
    let doctor = Process::builder(env!("CARGO_BIN_EXE_reveille"))
        .args(["doctor", "--database-url", &database, "--redis-url", &format!("redis://127.0.0.1:{nobody}")])
        .start();
    assert_eq!(doctor.wait_exit(SOON).await.code(), Some(1));
    let said = doctor.stdout();
    let bad: Vec<&str> = said.lines().filter(|line| line.starts_with("BAD")).collect();
    assert_eq!(bad.len(), 2, "{said}");
    assert!(bad.iter().all(|line| line.to_lowercase().contains("connection refused")), "{said}");
}
