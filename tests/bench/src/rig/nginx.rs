//! The sink of throughput: nginx that answers 200 and counts, from one process. It cannot tell who came, so
//! completeness is taken from the database and from its counter together.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use reveille_testkit::{Process, eventually_some, free_port, scratch_dir};

use crate::http::Connection;

const CONFIGURATION: &str = "\
daemon off;
master_process off;
pid DIR/pid;
error_log stderr crit;
events { worker_connections 4096; }
http {
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  client_body_temp_path DIR/body; proxy_temp_path DIR/proxy; fastcgi_temp_path DIR/fastcgi;
  uwsgi_temp_path DIR/uwsgi; scgi_temp_path DIR/scgi;
  server {
    listen 127.0.0.1:PORT backlog=4096;
    location = /counted { stub_status; }
    location / { return 200; }
  }
}
";

/// The server; ends with this value.
pub(crate) struct Nginx {
    _process: Process,
    address: String,
}

/// A look at its counter, over a connection of its own.
pub(crate) struct Counter {
    connection: Connection,
    /// Its own looks are counted, too.
    looks: u64,
    before: u64,
}

impl Nginx {
    /// `None` where nginx is not installed.
    pub(crate) async fn start() -> Result<Option<Self>> {
        let Some(program) = find() else {
            return Ok(None);
        };
        let dir = scratch_dir("nginx");
        let port = free_port();
        let configuration = CONFIGURATION.replace("DIR", &dir.to_string_lossy()).replace("PORT", &port.to_string());
        let path = dir.join("nginx.conf");
        fs::write(&path, configuration)?;
        let arguments =
            ["-c".as_ref(), path.as_os_str(), "-p".as_ref(), dir.as_os_str(), "-e".as_ref(), "stderr".as_ref()];
        let process = Process::builder(program).args(arguments).start();
        let address = format!("127.0.0.1:{port}");
        eventually_some(Duration::from_secs(10), "nginx answers", || async { Connection::open(&address).await.ok() })
            .await;
        Ok(Some(Self { _process: process, address }))
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// A counter that begins at nothing.
    pub(crate) async fn counter(&self) -> Result<Counter> {
        let connection = Connection::open(&self.address).await?;
        let mut counter = Counter { connection, looks: 0, before: 0 };
        counter.before = counter.total().await?;
        counter.looks = 0;
        Ok(counter)
    }
}

impl Counter {
    /// Requests since it began, but its own.
    pub(crate) async fn count(&mut self) -> Result<u64> {
        let total = self.total().await?;
        Ok(total - self.before - self.looks)
    }

    async fn total(&mut self) -> Result<u64> {
        let page = self.connection.get("/counted").await?;
        self.looks += 1;
        let page = String::from_utf8_lossy(&page);
        let total = page.lines().nth(2).and_then(|line| line.split_whitespace().nth(2)?.parse().ok());
        total.with_context(|| format!("no counter of requests in {page}"))
    }
}

fn find() -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([std::path::PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join("nginx")).find(|program| program.is_file())
}
