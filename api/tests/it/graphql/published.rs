//! The operations of the published schema, as its clients send them.

use serde_json::{Value, json};

use super::{ask, data, register};
use crate::support::{Api, document};

const REGISTER: &str = "mutation($registration: ScheduleEventInput!) {
    registerSchedule(registration: $registration) { name respId } }";
const UNREGISTER: &str = "mutation($name: String!) { unregisterSchedule(scheduleName: $name) { name respId count } }";
const LIST: &str = "query($queueType: ListInput!) { scheduledList(queueType: $queueType) {
    name type schedule task { type connection { host topic headers } data historyCheck failedPolicy maxRetryCount
    status iteration last_run retryCount next } } }";

fn registration(name: &str) -> Value {
    json!({
        "name": name, "type": "cron", "schedule": "0 * * * *",
        "task": {
            "type": "rest",
            "connection": {"host": "http://localhost:3000/run", "topic": "", "headers": {"X-One": "1"}},
            "data": {"instanceName": "x", "variables": {}},
            "historyCheck": false, "failedPolicy": "RETRY_DLQ", "maxRetryCount": 3
        }
    })
}

#[tokio::test]
async fn its_clients_register_list_and_unregister_by_name() {
    let api = Api::start().await;
    let one = data(&api, REGISTER, json!({"registration": registration("one")})).await["registerSchedule"].clone();
    assert_eq!(one["name"], "one");
    let again = data(&api, REGISTER, json!({"registration": registration("one")})).await["registerSchedule"].clone();
    assert_eq!(again["respId"], one["respId"], "the name is the key of whoever names no client");

    let listed = data(&api, LIST, json!({"queueType": {"dlq": false}})).await;
    let expected = json!([{
        "name": "one", "type": "cron", "schedule": "0 * * * *",
        "task": {
            "type": "rest",
            "connection": {"host": "http://localhost:3000/run", "topic": null,
                           "headers": {"X-One": "1"}},
            "data": {"instanceName": "x", "variables": {}},
            "historyCheck": false, "failedPolicy": "RETRY_DLQ", "maxRetryCount": 3,
            "status": "IDLE", "iteration": 0, "last_run": null, "retryCount": 0, "next": 1_800_003_600
        }
    }]);
    assert_eq!(listed["scheduledList"], expected);
    assert_eq!(data(&api, LIST, json!({"queueType": {"dlq": true}})).await["scheduledList"], json!([]));

    let gone = data(&api, UNREGISTER, json!({"name": "one"})).await["unregisterSchedule"].clone();
    assert_eq!(gone, json!({"name": "one", "respId": one["respId"], "count": 1}));
    assert_eq!(data(&api, LIST, json!({"queueType": {"dlq": false}})).await["scheduledList"], json!([]));
}

#[tokio::test]
async fn a_name_is_found_among_more_schedules_than_a_list_may_have() {
    let api = Api::start().await;
    let documents: Vec<Value> = (0..1001).map(|number| document(&number.to_string(), "cron", "@daily")).collect();
    futures_util::future::join_all(documents.iter().map(|document| api.register(document))).await;
    data(&api, REGISTER, json!({"registration": registration("one")})).await;
    let names = "query($queueType: ListInput!) { scheduledList(queueType: $queueType) { name } }";
    let named = async |name: &str| data(&api, names, json!({"queueType": {"dlq": false, "name": name}})).await;
    assert_eq!(named("one").await["scheduledList"], json!([{"name": "one"}]));
    assert_eq!(named("nosuch").await["scheduledList"], json!([]));
    let all = ask(&api, names, json!({"queueType": {"dlq": false}})).await.json;
    assert!(all["errors"][0]["message"].as_str().unwrap().contains("more than 1000 schedules"), "{all}");
}

#[tokio::test]
async fn a_name_unregisters_no_other_clients_schedule() {
    let api = Api::start().await;
    let other = register(&api, &document("one", "cron", "@daily")).await;
    let one = data(&api, REGISTER, json!({"registration": registration("one")})).await["registerSchedule"].clone();
    assert_ne!(one["respId"], other);
    data(&api, UNREGISTER, json!({"name": "one"})).await;
    let asked = "mutation($name: String!) { unregisterSchedule(scheduleName: $name) { count userErrors { code } } }";
    for nobody in ["one", "", "\0", "two"] {
        let refused = data(&api, asked, json!({"name": nobody})).await["unregisterSchedule"].clone();
        assert_eq!(refused, json!({"count": 0, "userErrors": [{"code": "not_found"}]}), "{nobody}");
    }
    let by_id = data(&api, UNREGISTER, json!({"name": other})).await["unregisterSchedule"].clone();
    assert_eq!((&by_id["respId"], &by_id["count"]), (&json!(other), &json!(1)));
}
