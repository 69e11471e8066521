//! Kept connections that a server ends, one request too late; HTTP/2 servers that go away; answers with many headers;
//! and the seven ways for TLS to fail, each in words.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reveille_shared::model::run::{OutcomeCode, RunState};
use reveille_testkit::scratch_dir;
use reveille_worker::Settings;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::version::TLS13;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::fixture::{Fixture, settings};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// Whether a request came.
async fn heard(stream: &mut TcpStream) -> bool {
    stream.read(&mut [0; 8192]).await.is_ok_and(|read| read > 0)
}

/// Answers the first request of each connection, and ends it as the second one comes. Counts connections and requests.
async fn serve_stale(listener: TcpListener, connections: Arc<AtomicUsize>, requests: Arc<AtomicUsize>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        connections.fetch_add(1, Ordering::SeqCst);
        let requests = requests.clone();
        tokio::spawn(async move {
            if heard(&mut stream).await {
                requests.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(OK).await;
            }
            if heard(&mut stream).await {
                requests.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_just_ended_costs_no_run() {
    let fixture = Fixture::new().await;
    let _worker = fixture.worker(settings());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("http://{}/", listener.local_addr().unwrap());
    let [connections, requests] = [Arc::<AtomicUsize>::default(), Arc::default()];
    let server = tokio::spawn(serve_stale(listener, connections.clone(), requests.clone()));
    for _ in 0..4 {
        let id = fixture.register_now("/", json!({"connection": {"host": host}})).await;
        let (run, attempts) = fixture.run_in(id, RunState::Succeeded).await;
        assert_eq!((run.attempt, attempts.len()), (1, 0));
    }
    // Each second one ended a kept connection and went over one that is not kept.
    let (connections, requests) = (connections.load(Ordering::SeqCst), requests.load(Ordering::SeqCst));
    assert!(requests > 4 && connections >= 4, "{connections} connections, {requests} requests");

    let at_most_once = json!({"connection": {"host": host}, "delivery": "at_most_once"});
    let (mut failed, mut succeeded) = (0, 0);
    for _ in 0..6 {
        let id = fixture.register_now("/", at_most_once.clone()).await;
        reveille_testkit::eventually(crate::fixture::LONG, "it ends", || async {
            fixture.runs(id).await[0].state.is_terminal()
        })
        .await;
        let run = fixture.runs(id).await.remove(0);
        match run.state {
            RunState::Succeeded => succeeded += 1,
            _ => {
                assert_eq!(run.outcome, Some(OutcomeCode::Transport), "{:?}", run.detail);
                failed += 1;
            }
        }
    }
    assert!(failed >= 2 && succeeded >= 2, "{failed} failed, {succeeded} succeeded: never sent twice");
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_ends_before_it_served_is_a_failure_and_no_second_try() {
    let fixture = Fixture::new().await;
    let _worker = fixture.worker(settings());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("http://{}/", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let count = requests.clone();
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(usize::from(heard(&mut stream).await), Ordering::SeqCst);
        }
    });
    let id = fixture.register_now("/", json!({"connection": {"host": host}})).await;
    let (run, _) = fixture.run_in(id, RunState::Failed).await;
    assert_eq!((run.outcome, requests.load(Ordering::SeqCst)), (Some(OutcomeCode::Transport), 1));
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_may_have_hundreds_of_headers() {
    let fixture = Fixture::new().await;
    let _worker = fixture.worker(settings());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("http://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        heard(&mut stream).await;
        let headers: String = (0..300).map(|number| format!("x-{number}: {number}\r\n")).collect();
        let answer = format!("HTTP/1.1 200 OK\r\n{headers}content-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
        heard(&mut stream).await;
    });
    let id = fixture.register_now("/", json!({"connection": {"host": host}})).await;
    fixture.run_in(id, RunState::Succeeded).await;
    server.abort();
}

/// A certificate for these names, valid in these years.
fn certificate(names: &[&str], years: (i32, i32)) -> (rcgen::Certificate, rcgen::KeyPair) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap(), key)
}

fn server_config((certificate, key): &(rcgen::Certificate, rcgen::KeyPair)) -> ServerConfig {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    ServerConfig::builder_with_protocol_versions(&[&TLS13])
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap()
}

/// A worker that trusts this certificate.
fn trusting(certificate: &rcgen::Certificate, path: &Path) -> Settings {
    std::fs::write(path, certificate.pem()).unwrap();
    Settings { ca_file: Some(path.to_owned()), ..settings() }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_a_server_going_away_did_not_look_at_are_sent_again() {
    const RUNS: usize = 60;
    reveille_worker::install_tls();
    let own = certificate(&["localhost"], (2020, 2099));
    let settings = trusting(&own.0, &scratch_dir("h2").join("own.pem"));
    let mut config = server_config(&own);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    let answered = Arc::new(AtomicUsize::new(0));
    let count = answered.clone();
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, count) = (acceptor.clone(), count.clone());
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(acceptor.accept(stream).await.unwrap()).await.unwrap();
                let mut served = 0;
                while let Some(Ok((_, mut answer))) = connection.accept().await {
                    served += 1;
                    count.fetch_add(1, Ordering::SeqCst);
                    answer.send_response(hyper::Response::new(()), true).unwrap();
                    if served == 7 {
                        connection.graceful_shutdown();
                    }
                }
            });
        }
    });
    let fixture = Fixture::new().await;
    let _worker = fixture.worker(Settings { concurrency: 32, ..settings });
    let task = json!({"connection": {"host": host}});
    let documents: Vec<_> = (0..RUNS).map(|_| fixture.document("now", "", "/", task.clone())).collect();
    for id in fixture.register(&documents).await {
        let (run, _) = fixture.run_in(id, RunState::Succeeded).await;
        assert_eq!(run.attempt, 1);
    }
    assert_eq!(answered.load(Ordering::SeqCst), RUNS, "and none of them twice");
    server.abort();
}

/// The detail of a run that finds this server.
async fn detail(server: ServerConfig, settings: Settings, host: &str) -> String {
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await;
        }
    });
    let detail = failure(settings, &format!("https://{host}:{port}/")).await;
    serving.abort();
    detail
}

async fn failure(settings: Settings, host: &str) -> String {
    let fixture = Fixture::new().await;
    let _worker = fixture.worker(settings);
    let id = fixture.register_now("/", json!({"connection": {"host": host}})).await;
    let (run, _) = fixture.run_in(id, RunState::Failed).await;
    assert_eq!(run.outcome, Some(OutcomeCode::Connect));
    run.detail.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn why_tls_failed_is_said_in_words() {
    reveille_worker::install_tls();
    let path = scratch_dir("tls").join("own.pem");
    let check = |detail: String, expected: &str| assert!(detail.contains(expected), "{detail} lacks: {expected}");
    let good = certificate(&["localhost"], (2020, 2099));
    for (years, expected) in [((2020, 2021), "has expired"), ((2098, 2099), "not valid yet")] {
        let own = certificate(&["localhost"], years);
        check(detail(server_config(&own), trusting(&own.0, &path), "localhost").await, expected);
    }
    check(detail(server_config(&good), trusting(&good.0, &path), "127.0.0.1").await, "for another name");
    check(detail(server_config(&good), settings(), "localhost").await, "an issuer that is not known here, or its own");

    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("https://{}/", plain.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = plain.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
            heard(&mut stream).await;
        }
    });
    check(failure(settings(), &host).await, "does not speak TLS");
    serving.abort();
}

/// A proxy that opens tunnels to whoever sends `authorization`, and says where to.
async fn proxy(listener: TcpListener, authorization: &'static str, opened: tokio::sync::mpsc::UnboundedSender<String>) {
    while let Ok((mut client, _)) = listener.accept().await {
        let opened = opened.clone();
        tokio::spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let to = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap().to_owned();
            if !head.to_ascii_lowercase().contains(&authorization.to_ascii_lowercase()) {
                client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await.unwrap();
                return;
            }
            let mut server = TcpStream::connect(&to).await.unwrap();
            opened.send(to).unwrap();
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_egress_proxy_is_asked_for_addresses_that_were_judged() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (opened, mut asked) = tokio::sync::mpsc::unbounded_channel();
    // user:pass
    let serving = tokio::spawn(proxy(listener, "proxy-authorization: Basic dXNlcjpwYXNz", opened));
    let fixture = Fixture::new().await;
    let through = |login: &str| Settings {
        egress_proxy: Some(format!("http://{login}127.0.0.1:{}", at.port()).parse().unwrap()),
        ..settings()
    };
    let worker = fixture.worker(through("user:pass@"));
    let port = fixture.receiver.address().port();
    let by_name = format!("http://localhost:{port}/named");
    let id = fixture.register_now("/", json!({"connection": {"host": by_name}})).await;
    fixture.run_in(id, RunState::Succeeded).await;
    let to = asked.recv().await.unwrap();
    assert!(to == format!("127.0.0.1:{port}") || to == format!("[::1]:{port}"), "{to}: the address and not the name");
    assert_eq!(fixture.receiver.deliveries_to("/named")[0].header("host"), format!("localhost:{port}"));
    let metadata = json!({"connection": {"host": "http://169.254.169.254/latest"}});
    let id = fixture.register_now("/", metadata).await;
    let (run, _) = fixture.run_in(id, RunState::Failed).await;
    assert_eq!(run.outcome, Some(OutcomeCode::Refused));
    worker.stop().await;

    let _stranger = fixture.worker(through(""));
    let id = fixture.register_now("/refused", json!({})).await;
    let (run, _) = fixture.run_in(id, RunState::Failed).await;
    assert_eq!(run.outcome, Some(OutcomeCode::Connect), "{:?}", run.detail);
    assert!(asked.try_recv().is_err());
    serving.abort();
}
