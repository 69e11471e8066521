//! A throwaway redis-server on a free port of the loopback interface. It is killed with its handle.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::eventually;

/// A Redis that can be killed, stopped and started again at the same address.
pub(crate) struct RedisServer {
    port: u16,
    password: Option<&'static str>,
    process: Child,
    directory: tempfile::TempDir,
}

impl RedisServer {
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    pub(crate) async fn start_with(password: Option<&'static str>) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let directory = tempfile::tempdir().unwrap();
        let process = spawn(port, password, &directory);
        let server = Self { port, password, process, directory };
        server.answers().await;
        server
    }

    pub(crate) fn url(&self) -> String {
        let login = self.password.map_or_else(String::new, |password| format!(":{password}@"));
        format!("redis://{login}127.0.0.1:{}", self.port)
    }

    /// An address where nothing listens yet; [`RedisServer::restart`] changes that.
    pub(crate) async fn start_killed() -> Self {
        let mut server = Self::start().await;
        server.kill();
        server
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub(crate) async fn restart(&mut self) {
        self.process = spawn(self.port, self.password, &self.directory);
        self.answers().await;
    }

    /// Stops or continues the process, which keeps its connections open.
    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").arg(signal).arg(self.process.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    pub(crate) async fn connection(&self) -> redis::aio::MultiplexedConnection {
        redis::Client::open(self.url()).unwrap().get_multiplexed_async_connection().await.unwrap()
    }

    pub(crate) async fn command(&self, words: &[&str]) -> redis::Value {
        let mut connection = self.connection().await;
        redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await.unwrap()
    }

    async fn answers(&self) {
        let client = redis::Client::open(self.url()).unwrap();
        eventually("redis answers", Duration::from_secs(20), async || {
            let mut connection = client.get_multiplexed_async_connection().await.ok()?;
            redis::cmd("PING").query_async::<String>(&mut connection).await.ok()
        })
        .await;
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(port: u16, password: Option<&str>, directory: &tempfile::TempDir) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port.to_string()]);
    if let Some(password) = password {
        command.args(["--requirepass", password]);
    }
    let command = command.current_dir(directory.path()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("redis-server is needed for these tests and not in PATH")
}
