//! HTTPS targets with a private certificate authority: trusted where it is named, and only for the name it vouches for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use reveille_shared::model::run::{OutcomeCode, RunState};
use reveille_testkit::scratch_dir;
use reveille_worker::{NamedConnection, Settings};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::fixture::{Fixture, settings};

/// Serves 200 to whoever trusts it; answers its port. Its authority is written to `path`.
async fn serve(path: &Path) -> u16 {
    reveille_worker::install_tls();
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(path, own.cert.pem()).unwrap();
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![own.cert.der().clone()], key);
    let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
            let _ = stream.shutdown().await;
        }
    });
    port
}

async fn check(settings: Settings, connection: Value, outcome: OutcomeCode) {
    let fixture = Fixture::new().await;
    let _worker = fixture.worker(settings);
    let mut document = fixture.document("now", "", "/", json!({}));
    document["task"]["connection"] = connection;
    let id = fixture.register(&[document]).await[0];
    let state = if outcome == OutcomeCode::Ok { RunState::Succeeded } else { RunState::Failed };
    let (run, _) = fixture.run_in(id, state).await;
    assert_eq!(run.outcome, Some(outcome), "{run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_authority_is_trusted_where_it_is_named() {
    let folder = scratch_dir("https");
    let [own, other]: [PathBuf; 2] = ["own.pem", "other.pem"].map(|name| folder.join(name));
    let port = serve(&own).await;
    serve(&other).await;
    let trusting = |path: &Path| Settings { ca_file: Some(path.to_owned()), ..settings() };
    let at = |host: &str| json!({"host": format!("https://{host}:{port}/")});
    check(trusting(&own), at("localhost"), OutcomeCode::Ok).await;
    check(trusting(&own), at("127.0.0.1"), OutcomeCode::Connect).await;
    check(trusting(&other), at("localhost"), OutcomeCode::Connect).await;
    check(settings(), at("localhost"), OutcomeCode::Connect).await;

    let named = |path: &Path| {
        let connection = json!({"type": "rest", "host": format!("https://localhost:{port}/"), "ca_file": path});
        let connection: NamedConnection = serde_json::from_value(connection).unwrap();
        Settings { connections: [("private".to_owned(), connection)].into(), ..settings() }
    };
    let by_name = json!({"name": "private"});
    check(named(&own), by_name.clone(), OutcomeCode::Ok).await;
    check(named(&other), by_name.clone(), OutcomeCode::Connect).await;
    check(named(&folder.join("missing.pem")), by_name, OutcomeCode::Connect).await;
}
