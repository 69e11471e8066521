//! One HTTP connection that is kept: the bare client of the limit probes, and what drives the API.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// A connection; closed with this value.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Connection {
    pub(crate) async fn open(address: &str) -> Result<Self> {
        let address: SocketAddr = address.parse().with_context(|| format!("the address {address}"))?;
        ensure!(address.ip().is_loopback(), "{address}: nothing but this machine is a target");
        let stream = TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        let (sender, driver) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        Ok(Self { sender, host: address.to_string() })
    }

    /// A request and its whole answer.
    pub(crate) async fn send(&mut self, method: &str, path: &str, body: Bytes) -> Result<(u16, Bytes)> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.host)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status().as_u16();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }

    /// A POST that must succeed.
    pub(crate) async fn post(&mut self, path: &str, body: Bytes) -> Result<Bytes> {
        let (status, answer) = self.send("POST", path, body).await?;
        ensure!(status == 200, "POST {path}: {status} {}", String::from_utf8_lossy(&answer));
        Ok(answer)
    }

    /// A GET that must succeed.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Bytes> {
        let (status, answer) = self.send("GET", path, Bytes::new()).await?;
        ensure!(status == 200, "GET {path}: {status} {}", String::from_utf8_lossy(&answer));
        Ok(answer)
    }

    /// Registers a schedule and answers its id.
    pub(crate) async fn register(&mut self, document: &Value) -> Result<String> {
        let answer = self.post("/schedules", Bytes::from(document.to_string())).await?;
        let answer: Value = serde_json::from_slice(&answer)?;
        Ok(answer["id"].as_str().context("an id")?.to_owned())
    }
}
