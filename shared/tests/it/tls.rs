//! TLS to the database and to the bus: a server must be who its certificate says, by an authority that is trusted.

use std::sync::Arc;

use reveille_shared::bus::Bus;
use reveille_shared::bus::redis::RedisBus;
use reveille_shared::runtime::clock::SystemClock;
use reveille_shared::runtime::lifecycle::Lifecycle;
use reveille_shared::store::{StoreSettings, open};
use reveille_testkit::{Postgres, Redis, free_port, scratch_dir};

/// A certificate for `localhost` and nothing else, by an authority of its own.
fn certified() -> rcgen::CertifiedKey<rcgen::KeyPair> {
    rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

#[tokio::test]
async fn postgres_is_verified_in_full() {
    let (own, other, folder) = (certified(), certified(), scratch_dir("tls"));
    let server = Postgres::start_with_tls(&own.cert.pem(), &own.signing_key.serialize_pem()).await;
    let url = server.fresh_database().await;
    for (host, authority, lets_in) in
        [("localhost", &own, true), ("localhost", &other, false), ("127.0.0.1", &own, false)]
    {
        let path = folder.join("ca.pem");
        std::fs::write(&path, authority.cert.pem()).unwrap();
        let url = url.replacen("127.0.0.1", host, 1);
        let url = format!("{url}?sslmode=verify-full&sslrootcert={}", path.display());
        let store = open(&url, StoreSettings::default()).await.unwrap();
        let answer = store.ping().await;
        assert_eq!(answer.is_ok(), lets_in, "{host} {answer:?}");
        store.close().await;
    }
}

#[tokio::test]
async fn the_bus_is_verified_in_full() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (own, other, folder) = (certified(), certified(), scratch_dir("tls"));
    let path = |name: &str| folder.join(name).display().to_string();
    std::fs::write(path("cert.pem"), own.cert.pem()).unwrap();
    std::fs::write(path("key.pem"), own.signing_key.serialize_pem()).unwrap();
    let port = free_port().to_string();
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    let tls = ["--tls-port", &port, "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-auth-clients", "no"];
    let _server = Redis::start_with(&tls).await;
    for (host, authority, lets_in) in
        [("localhost", &own, true), ("localhost", &other, false), ("127.0.0.1", &own, false)]
    {
        let (url, lifecycle) = (format!("rediss://{host}:{port}"), Lifecycle::new());
        let authority = authority.cert.pem().into_bytes();
        let clock = Arc::new(SystemClock::new());
        let bus = RedisBus::connect_trusting(authority, &url, "tls", clock, &lifecycle).unwrap();
        let answer = bus.lower(1, 0).await;
        assert_eq!(answer.is_ok(), lets_in, "{host} {answer:?}");
        lifecycle.abort();
    }
    let unreadable = b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".to_vec();
    let refused =
        RedisBus::connect_trusting(unreadable, "rediss://h", "tls", Arc::new(SystemClock::new()), &Lifecycle::new());
    assert!(refused.is_err());
}
