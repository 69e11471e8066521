//! A throwaway broker that speaks Kafka's protocol and was written by others (rivine), and a consumer that is not
//! the product's (kcat).
//!
//! The broker tells its clients that it is at 127.0.0.1:9092 whatever its configuration says, so there is one at a
//! time, on that port.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::MutexGuard;

use crate::child::{End, GuardedChild};
use crate::eventually_some;
use crate::scratch::scratch_dir;

const PORT: u16 = 9092;
const START_DEADLINE: Duration = Duration::from_secs(30);
const INSTALL: &str = "rivine-broker is not installed: run ./ci/test, which puts it into \
                       ${XDG_CACHE_HOME:-~/.cache}/reveille-tools/rivine-0.2.0, or set REVEILLE_KAFKA_BROKER to its path";
const KCAT: &str = "kcat is not installed: run ./ci/test, or `apt-get install kcat`";

/// Who has the port.
static PORT_TAKEN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A broker that ends with this value, and with the test process at the latest.
pub struct Kafka {
    dir: PathBuf,
    server: Mutex<Option<GuardedChild>>,
    _port: MutexGuard<'static, ()>,
}

impl Kafka {
    /// The broker, once it answers and nobody else in this process has it.
    pub async fn start() -> Self {
        let port = PORT_TAKEN.lock().await;
        let dir = scratch_dir("kafka");
        let config = format!(
            "host = \"127.0.0.1\"\nport = {PORT}\nlog_dirs = [\"{}\"]\nsingle_node = true\n",
            dir.join("logs").display()
        );
        std::fs::create_dir_all(dir.join("logs")).expect("make the broker's folder");
        std::fs::write(dir.join("broker.toml"), config).expect("write the broker's configuration");
        let this = Self { dir, server: Mutex::new(None), _port: port };
        this.serve().await;
        this
    }

    /// The bootstrap list.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{PORT}")
    }

    /// Ends the broker with kill -9; what it wrote stays.
    pub fn kill(&self) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Starts it again after [`Kafka::kill`].
    pub async fn restart(&self) {
        self.kill();
        self.serve().await;
    }

    /// What kcat reads from a topic, from its beginning to its end, a line per record in kcat's own `format`.
    pub async fn read(&self, topic: &str, format: &str) -> Vec<String> {
        let mut kcat = Command::new("kcat");
        kcat.args(["-b", &self.bootstrap(), "-t", topic, "-C", "-o", "beginning", "-e", "-q", "-f", format]);
        kcat.stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || kcat.output()).await.expect("kcat runs to its end");
        let output = output.unwrap_or_else(|error| panic!("{KCAT}: {error}"));
        let text = String::from_utf8(output.stdout).expect("text");
        text.lines().map(str::to_owned).collect()
    }

    async fn serve(&self) {
        let mut command = Command::new(broker());
        command.arg("--config").arg(self.dir.join("broker.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = GuardedChild::spawn(&mut command, End::Kill);
        eventually_some(START_DEADLINE, "the broker answers on port 9092, which nobody else may have", || {
            assert!(server.ended().is_none(), "the broker ended at once: is port {PORT} taken?");
            async { TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)).await.ok() }
        })
        .await;
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
    }
}

fn broker() -> PathBuf {
    if let Some(path) = std::env::var_os("REVEILLE_KAFKA_BROKER") {
        return PathBuf::from(path);
    }
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home).expect("a home");
    let path = cache.join("reveille-tools/rivine-0.2.0/bin/rivine-broker");
    assert!(path.exists(), "{INSTALL}");
    path
}
