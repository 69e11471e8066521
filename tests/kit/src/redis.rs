//! Throwaway Redis servers: a real one, on a free loopback port, without persistence.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use crate::child::{End, GuardedChild};
use crate::scratch::scratch_dir;
use crate::{eventually_some, free_port};

const START_DEADLINE: Duration = Duration::from_secs(30);
const PORT_ATTEMPTS: u32 = 5;
const INSTALL: &str = "redis-server is not installed: run ./ci/test, or `apt-get install redis-server`";

/// A Redis server that ends with this value, and with the test process at the latest.
pub struct Redis {
    dir: PathBuf,
    port: u16,
    settings: Vec<String>,
    server: Mutex<GuardedChild>,
    names: AtomicU32,
}

impl Redis {
    /// The one server of this test process, for tests that only need a namespace of their own.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Redis> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// A private server, to be killed, stopped and restarted.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// A private server with settings of its own, as on its command line: `["--cluster-enabled", "yes"]`. A first
    /// one without dashes is the path of a configuration file.
    pub async fn start_with(settings: &[&str]) -> Self {
        assert_installed();
        let settings: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let dir = scratch_dir("redis");
        for _ in 0..PORT_ATTEMPTS {
            let port = free_port();
            if let Some(server) = serve(&dir, port, &settings).await {
                return Self { dir, port, settings, server: Mutex::new(server), names: AtomicU32::new(0) };
            }
        }
        panic!("redis-server did not start on any of {PORT_ATTEMPTS} free ports");
    }

    /// Where it listens, the same over restarts.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The port it listens on, the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.server().pid()
    }

    /// A prefix nobody else uses.
    pub fn fresh_namespace(&self) -> String {
        format!("test-{}-{}", std::process::id(), self.names.fetch_add(1, Ordering::Relaxed))
    }

    /// Ends the server with kill -9; what it held is gone.
    pub fn kill(&self) {
        self.server().stop();
    }

    /// Kills the server if it runs and starts an empty one on the same port; returns when it answers.
    pub async fn restart(&self) {
        self.kill();
        let server = serve(&self.dir, self.port, &self.settings).await;
        *self.server() = server.unwrap_or_else(|| panic!("redis-server did not start again on {}", self.port));
    }

    /// Stops it with SIGSTOP: connections stay open and nobody answers.
    pub fn stop(&self) {
        self.server().signal(Signal::STOP);
    }

    /// Lets it go on after [`Redis::stop`].
    pub fn cont(&self) {
        self.server().signal(Signal::CONT);
    }

    fn server(&self) -> MutexGuard<'_, GuardedChild> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn assert_installed() {
    if let Err(error) = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status() {
        assert!(error.kind() != ErrorKind::NotFound, "{INSTALL}");
        panic!("cannot run redis-server: {error}");
    }
}

/// The server once it answers; `None` when it gave up, as when another process took the port.
async fn serve(dir: &PathBuf, port: u16, settings: &[String]) -> Option<GuardedChild> {
    let mut command = Command::new("redis-server");
    let file = settings.first().filter(|first| !first.starts_with("--"));
    command.args(file);
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no", "--dir"]);
    command.arg(dir).args(&settings[usize::from(file.is_some())..]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());

    let mut server = GuardedChild::spawn(&mut command, End::Kill);
    let pid = server.pid();
    let is_up = eventually_some(START_DEADLINE, "redis-server answers", || {
        let ended = server.ended().is_some();
        async move { if ended { Some(false) } else { answers(port, pid).await.then_some(true) } }
    })
    .await;
    is_up.then_some(server)
}

/// Whether the server with this process id, and no other, answers on `port`.
async fn answers(port: u16, pid: u32) -> bool {
    let info = async {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        connection.write_all(b"INFO server\r\n").await?;
        let mut answer = Vec::new();
        // A line after the one that is looked for: then that one is whole. (A Sentinel knows no QUIT.)
        while !contains(&answer, b"\r\nrun_id:") && connection.read_buf(&mut answer).await? > 0 {}
        std::io::Result::Ok(answer)
    };
    info.await.is_ok_and(|answer| contains(&answer, format!("process_id:{pid}\r\n").as_bytes()))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
