//! The bus over several servers: Sentinels whose master fails over, a cluster whose slots move.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Client, cmd};
use reveille_shared::bus::redis::RedisBus;
use reveille_shared::bus::{Beat, Bus, BusEvent, Subscription};
use reveille_shared::runtime::clock::SystemClock;
use reveille_shared::runtime::lifecycle::Lifecycle;
use reveille_testkit::{Redis, free_port, scratch_dir};

use crate::eventually;

const SOON: Duration = Duration::from_secs(30);

fn bus(url: &str) -> RedisBus {
    RedisBus::connect(url, "reveille", Arc::new(SystemClock::new()), &Lifecycle::new()).unwrap()
}

async fn connection(server: &Redis) -> MultiplexedConnection {
    Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap()
}

/// Lowers until that works, and until the subscription hears it.
async fn works(bus: &RedisBus, subscription: &mut Subscription, at: i64) {
    eventually("it is lowered", SOON, async || bus.lower(at, 0).await.ok()).await;
    let heard = async {
        loop {
            match subscription.recv().await.expect("the bus is there") {
                BusEvent::Wake(state) | BusEvent::Connected(Some(state)) if state.next_ms == at => return,
                _ => {}
            }
        }
    };
    tokio::time::timeout(SOON, heard).await.expect("it is heard");
}

#[tokio::test]
async fn a_fail_over_of_the_master_is_followed() {
    let (first, second) = (Redis::start().await, Redis::start().await);
    let config = scratch_dir("bus-sentinel").join("sentinel.conf");
    let text = format!(
        "sentinel monitor master 127.0.0.1 {} 1\nsentinel down-after-milliseconds master 500\nsentinel failover-timeout master 2000\n",
        first.port()
    );
    std::fs::write(&config, text).unwrap();
    let mut replica = connection(&second).await;
    let _: () = cmd("REPLICAOF").arg("127.0.0.1").arg(first.port()).query_async(&mut replica).await.unwrap();
    let sentinel = Redis::start_with(&[config.to_str().unwrap(), "--sentinel"]).await;
    let bus = bus(&format!("redis+sentinel://127.0.0.1:1,127.0.0.1:{}/master", sentinel.port()));
    let mut subscription = bus.subscribe();
    works(&bus, &mut subscription, 900).await;
    eventually("the sentinel knows the replica", SOON, async || {
        let mut sentinel = connection(&sentinel).await;
        let replicas: Vec<HashMap<String, String>> =
            cmd("SENTINEL").arg("replicas").arg("master").query_async(&mut sentinel).await.unwrap();
        replicas
            .iter()
            .any(|replica| replica["flags"] == "slave" && replica["master-link-status"] == "ok")
            .then_some(())
    })
    .await;
    first.kill();
    works(&bus, &mut subscription, 800).await;
    let kept: Option<String> =
        cmd("GET").arg("{reveille}:wake").query_async(&mut connection(&second).await).await.unwrap();
    assert!(kept.is_some_and(|state| state.contains("800")), "the new master has it");
}

#[tokio::test]
async fn a_slot_of_the_cluster_that_moves_is_followed() {
    let mut nodes = Vec::new();
    for slots in [(0, 8191), (8192, 16383)] {
        let bus_port = free_port().to_string();
        let node = Redis::start_with(&["--cluster-enabled", "yes", "--cluster-port", &bus_port]).await;
        let mut redis = connection(&node).await;
        let _: () =
            cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(slots.0).arg(slots.1).query_async(&mut redis).await.unwrap();
        let id: String = cmd("CLUSTER").arg("MYID").query_async(&mut redis).await.unwrap();
        nodes.push((node, bus_port, id));
    }
    let mut first = connection(&nodes[0].0).await;
    let (other, bus_port, _) = &nodes[1];
    let meet = cmd("CLUSTER").arg("MEET").arg("127.0.0.1").arg(other.port()).arg(bus_port).clone();
    let _: () = meet.query_async(&mut first).await.unwrap();
    eventually("the cluster is whole", SOON, async || {
        let mut whole = true;
        for (node, ..) in &nodes {
            let info: String = cmd("CLUSTER").arg("INFO").query_async(&mut connection(node).await).await.unwrap();
            whole &= info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:2");
        }
        whole.then_some(())
    })
    .await;
    let slot: u16 = cmd("CLUSTER").arg("KEYSLOT").arg("{reveille}:wake").query_async(&mut first).await.unwrap();
    let (owner, next) = if slot < 8192 { (0, 1) } else { (1, 0) };

    // The node that is named is not the one that has the slot.
    let bus = bus(&format!("redis+cluster://127.0.0.1:{}", nodes[next].0.port()));
    let mut subscription = bus.subscribe();
    works(&bus, &mut subscription, 900).await;
    assert!(bus.elect("me", Duration::from_secs(60)).await.unwrap());

    let _: () = cmd("DEL")
        .arg("{reveille}:wake")
        .arg("{reveille}:monitor")
        .query_async(&mut connection(&nodes[owner].0).await)
        .await
        .unwrap();
    for node in [next, owner] {
        let mut redis = connection(&nodes[node].0).await;
        let _: () = cmd("CLUSTER")
            .arg("SETSLOT")
            .arg(slot)
            .arg("NODE")
            .arg(&nodes[next].2)
            .query_async(&mut redis)
            .await
            .unwrap();
    }
    works(&bus, &mut subscription, 800).await;
    assert!(bus.elect("me", Duration::from_secs(60)).await.unwrap());
}

/// As docs/running.md has it.
const RIGHTS: &str = "~{reveille}:* &{reveille}:* -@all +@connection +get +set +exists +pexpire +pttl +del +hset +hgetall \
                      +hdel +time +publish +subscribe +unsubscribe +eval +evalsha +script|load";

#[tokio::test]
async fn a_user_with_the_documented_rights_can_do_all_of_it() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/running.md")).unwrap();
    assert!(page.split_whitespace().collect::<Vec<_>>().join(" ").contains(RIGHTS), "docs/running.md says otherwise");
    let server = Redis::start().await;
    let mut user = cmd("ACL");
    user.arg("SETUSER").arg("reveille").arg("on").arg(">secret").arg(RIGHTS.split(' ').collect::<Vec<_>>());
    let _: () = user.query_async(&mut connection(&server).await).await.unwrap();
    let bus = bus(&format!("redis://reveille:secret@127.0.0.1:{}", server.port()));
    let mut subscription = bus.subscribe();
    works(&bus, &mut subscription, 900).await;
    assert!(bus.elect("me", Duration::from_secs(60)).await.unwrap());
    let marked = bus.mark("token", 1).await.unwrap();
    bus.set("token", marked.nonce, Some(950)).await.unwrap();
    bus.nudge().await.unwrap();
    let beat =
        Beat { id: "me".to_owned(), epoch: 1, ttl: Duration::from_secs(60), db_ms: 5, seen_nonce: 0, seen_seq: 0 };
    assert!(bus.beat(&beat).await.unwrap().is_some());
    assert!(bus.backlog_read().await.unwrap().is_none());
    bus.backlog_want().await.unwrap();
    bus.resign("me").await.unwrap();
    let refused = bus.rehearse().await;
    assert!(refused.is_empty(), "{refused:?}");
}

#[tokio::test]
async fn a_rehearsal_names_what_a_user_may_not_do_and_leaves_nothing_behind() {
    let server = Redis::start().await;
    let all = bus(&server.url());
    assert!(all.rehearse().await.is_empty());
    let mut redis = connection(&server).await;
    let keys: Vec<String> = cmd("KEYS").arg("*").query_async(&mut redis).await.unwrap();
    assert!(keys.is_empty(), "{keys:?}");
    let fewer = RIGHTS.replace("+hset ", "").replace("+publish ", "");
    let mut user = cmd("ACL");
    user.arg("SETUSER").arg("few").arg("on").arg(">secret").arg(fewer.split(' ').collect::<Vec<_>>());
    let _: () = user.query_async(&mut redis).await.unwrap();
    let few = bus(&format!("redis://few:secret@127.0.0.1:{}", server.port()));
    let refused: Vec<&str> = few.rehearse().await.into_iter().map(|(what, _)| what).collect();
    assert!(refused.iter().any(|what| what.contains("HSET")), "{refused:?}");
    assert!(refused.contains(&"stages of runs (PUBLISH)"), "{refused:?}");
    assert!(!refused.iter().any(|what| what.contains("SUBSCRIBE")), "{refused:?}");
}
