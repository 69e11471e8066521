//! Sealed secrets: what opens and what does not, what is shown, and when two documents are the same.

use reveille_shared::model::document::fingerprint;
use reveille_shared::model::schedule::Definition;
use reveille_shared::model::secret::{Reference, SecretHeaders, is_masked, is_same_server, mask};
use reveille_shared::runtime::seal::{Sealer, SealingKey, Unopened};
use serde_json::{Value, json};

const CANARY: &str = "canary-81c2";
const ONE: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const TWO: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI";

fn sealer(keys: &[&str]) -> Sealer {
    let names = SecretHeaders::default().and(["X-Token".to_owned()]);
    Sealer::new(keys.iter().map(|key| key.parse().unwrap()).collect(), names)
}

fn definition(key: &str, kind: &str, host: &str, headers: Value) -> Definition {
    let document = json!({
        "name": "n", "client": {"application": "chef", "key": key}, "type": "cron", "schedule": "@daily",
        "timezone": "UTC",
        "task": {"type": kind, "connection": {"host": host, "headers": headers}, "data": {"a": 1}, "retry_wait": 60}
    });
    serde_json::from_value(document).unwrap()
}

fn secretive(key: &str) -> Definition {
    let headers = json!({"authorization": CANARY, "X-Token": CANARY, "X-Plain": "seen",
                         "X-Api-Key": "secret://name", "Cookie": "Bearer secret://a.b-c"});
    definition(key, "redis", &format!("redis://user:{CANARY}@host:1/2"), headers)
}

fn text(definition: &Definition) -> String {
    serde_json::to_string(definition).unwrap()
}

fn sealed(sealer: &Sealer, plain: &Definition) -> Definition {
    let mut sealed = plain.clone();
    sealer.seal(&mut sealed).unwrap();
    sealed
}

#[test]
fn what_is_sealed_opens_as_it_was_and_nowhere_else() {
    let (sealer_one, plain) = (sealer(&[ONE]), secretive("1"));
    let stored = sealed(&sealer_one, &plain);
    assert!(!text(&stored).contains(CANARY), "{}", text(&stored));
    let headers = &stored.task.connection.headers;
    assert_eq!((headers["X-Plain"].as_str(), headers["X-Api-Key"].as_str()), ("seen", "secret://name"));
    assert!(stored.task.connection.host.starts_with("redis://user:sealed.v1."), "{}", stored.task.connection.host);
    assert!(stored.task.connection.host.ends_with("@host:1/2"));
    assert_ne!(text(&sealed(&sealer_one, &plain)), text(&stored), "nonces are random");

    let open = |sealer: &Sealer, stored: &Definition| {
        let mut opened = stored.clone();
        sealer.unseal(&mut opened).map(|()| opened)
    };
    assert_eq!(open(&sealer_one, &stored).unwrap(), plain);
    assert_eq!(open(&sealer(&[TWO, ONE]), &stored).unwrap(), plain);
    // Who opens need not know which names were configured where it was sealed.
    let ignorant = Sealer::new(vec![ONE.parse().unwrap()], SecretHeaders::default());
    assert_eq!(open(&ignorant, &stored).unwrap(), plain);
    for without in [sealer(&[]), sealer(&[TWO])] {
        assert!(matches!(open(&without, &stored), Err(Unopened::KeyMissing(id)) if id.len() == 8));
    }

    let mut elsewhere = stored.clone();
    elsewhere.client.key = "2".to_owned();
    assert_eq!(open(&sealer_one, &elsewhere), Err(Unopened::Foreign));
    let mut renamed = stored.clone();
    let value = renamed.task.connection.headers.remove("authorization").unwrap();
    renamed.task.connection.headers.insert("X-Else".to_owned(), value.clone());
    assert_eq!(open(&sealer_one, &renamed), Err(Unopened::Foreign));
    let cut = &value[..value.len() - 1];
    for damaged in [cut, "sealed.v1.", &cut[..19], "sealed.v1.72cd6e84.!", "sealed.v1.72cd6e84."] {
        let mut broken = stored.clone();
        broken.task.connection.headers.insert("authorization".to_owned(), damaged.to_owned());
        assert!(open(&sealer_one, &broken).is_err(), "{damaged}");
    }

    let in_the_clear = open(&sealer_one, &plain).unwrap();
    assert_eq!(in_the_clear, plain, "what an earlier version stored stays usable");
}

#[test]
fn nothing_is_sealed_without_a_key() {
    let refusal = sealer(&[]).seal(&mut secretive("1")).unwrap_err();
    let headers = "/task/connection/headers";
    let pointers =
        [format!("{headers}/X-Token"), format!("{headers}/authorization"), "/task/connection/host".to_owned()];
    assert_eq!(refusal.pointers, pointers);
    let harmless = definition("1", "redis", "redis://user@host", json!({"authorization": "Bearer secret://x"}));
    assert_eq!(sealed(&sealer(&[]), &harmless), harmless);
}

#[test]
fn fingerprints_know_secrets_apart_and_give_nothing_away() {
    let (one, two) = (sealer(&[ONE]), sealer(&[TWO]));
    let plain = secretive("1");
    let mut other = plain.clone();
    other.task.connection.headers.insert("authorization".to_owned(), "else".to_owned());
    assert_eq!(one.fingerprint(&plain), one.fingerprint(&plain));
    assert_ne!(one.fingerprint(&plain), one.fingerprint(&other));
    assert_ne!(one.fingerprint(&plain), two.fingerprint(&plain), "it takes the key to try values");
    assert_ne!(one.fingerprint(&plain), fingerprint(&plain));
    let harmless = definition("1", "rest", "http://h/", json!({"X-Plain": "1"}));
    assert_eq!(one.fingerprint(&harmless), fingerprint(&harmless), "as before where there is no secret");
}

#[test]
fn what_is_sealed_under_another_key_is_not_current() {
    let (rotated, plain) = (sealer(&[TWO, ONE]), secretive("1"));
    assert!(rotated.is_current(&sealed(&rotated, &plain)));
    assert!(!rotated.is_current(&sealed(&sealer(&[ONE]), &plain)));
    assert!(!rotated.is_current(&plain));
    assert!(!sealer(&[]).is_current(&plain));
    assert!(sealer(&[]).is_current(&definition("1", "rest", "http://h/", json!({}))));
}

#[test]
fn what_is_shown_holds_no_secret_and_is_recognised_when_it_comes_back() {
    for stored in [secretive("1"), sealed(&sealer(&[ONE]), &secretive("1"))] {
        assert!(!is_masked(&stored));
        let mut shown = stored.clone();
        mask(&mut shown, sealer(&[]).headers());
        assert!(is_masked(&shown));
        assert_eq!(shown.task.connection.host, "redis://user:***@host:1/2");
        assert_eq!(shown.task.connection.headers["authorization"], "***");
        assert_eq!(shown.task.connection.headers["Cookie"], "Bearer secret://a.b-c");
        assert!(!text(&shown).contains("sealed.v1"), "{}", text(&shown));
    }
}

#[test]
fn keys_are_32_bytes_and_never_quoted() {
    assert!(SealingKey::generate().unwrap().parse::<SealingKey>().is_ok());
    assert_ne!(SealingKey::generate().unwrap(), SealingKey::generate().unwrap());
    for bad in ["", "c2hvcnQ=", &ONE[..40], "not base64 at all, not even nearly so!!!"] {
        let refusal = bad.parse::<SealingKey>().err().unwrap();
        assert!(bad.is_empty() || !refusal.contains(bad), "{refusal}");
    }
}

fn check_server(kind: &str, one: &str, other: &str, same: bool) {
    let [one, other] = [one, other].map(|host| definition("1", kind, host, json!({})));
    assert_eq!(is_same_server(&one, &other), same, "{} {}", one.task.connection.host, other.task.connection.host);
}

#[test]
fn servers_are_told_apart() {
    check_server("rest", "https://h/a", "https://H:443/b?c", true);
    for other in ["http://h/a", "https://h:444/a", "https://i/a", "https://h.evil/a", "not a url"] {
        check_server("rest", "https://h/a", other, false);
    }
    check_server("rest", "not a url", "not a url", false);
    check_server("redis", "redis://u:p@h/1", "redis://v:q@h:6379/2", true);
    for other in ["rediss://h", "redis://h:1", "redis://i", "redis+cluster://h"] {
        check_server("redis", "redis://h", other, false);
    }
    check_server("kafka", "a:1, B:2", "b:2,a:1", true);
    check_server("kafka", "a:1,b:2", "a:1", false);
    let (rest, redis) =
        (definition("1", "rest", "redis://h", json!({})), definition("1", "redis", "redis://h", json!({})));
    assert!(!is_same_server(&rest, &redis));
    let mut named = rest.clone();
    named.task.connection.name = Some("orders".to_owned());
    assert!(is_same_server(&named, &named) && !is_same_server(&named, &rest));
}

#[test]
fn references_are_the_whole_value_or_follow_a_word() {
    let read = |value| Reference::read(value).map(|reference| (reference.before, reference.name));
    assert_eq!(read("secret://a.b-c_D9"), Some(("", "a.b-c_D9")));
    assert_eq!(read("Bearer secret://t"), Some(("Bearer ", "t")));
    let long = format!("secret://{}", "x".repeat(129));
    for none in [
        "",
        "secret",
        "secret://",
        "secret://.a",
        "secret://../a",
        "secret://a/b",
        "secret://a b",
        "secret://é",
        " secret://a",
        "a  secret://b",
        "a b secret://c",
        "xsecret://a",
        "secret://a secret://b",
        "secret://Webhook-Signing",
        &long,
    ] {
        assert_eq!(read(none), None, "{none}");
    }
}
