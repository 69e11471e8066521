//! Throwaway PgBouncer poolers in front of a throwaway PostgreSQL.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use crate::child::{End, GuardedChild};
use crate::postgres::{Postgres, Programs};
use crate::scratch::scratch_dir;
use crate::{eventually_some, free_port};

const START_DEADLINE: Duration = Duration::from_secs(30);
const PORT_ATTEMPTS: u32 = 5;
const PROGRAM: &str = "/usr/sbin/pgbouncer";
const INSTALL: &str = "pgbouncer is not installed: run ./ci/test, or `apt-get install pgbouncer`";

/// A PgBouncer that ends with this value, and with the test process at the latest.
pub struct PgBouncer {
    dir: PathBuf,
    port: u16,
    _server: GuardedChild,
}

impl PgBouncer {
    /// The one in transaction mode before [`Postgres::shared`].
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<PgBouncer> = OnceCell::const_new();
        SHARED.get_or_init(|| async { Self::start(Postgres::shared().await, &["pool_mode=transaction"]).await }).await
    }

    /// A private one before this server, with settings of its own such as `pool_mode=session`.
    pub async fn start(postgres: &Postgres, settings: &[&str]) -> Self {
        assert!(fs::exists(PROGRAM).is_ok_and(|exists| exists), "{INSTALL}");
        let dir = scratch_dir("pgbouncer");
        let programs = Programs::find();
        for _ in 0..PORT_ATTEMPTS {
            let port = free_port();
            let users = dir.join("users");
            fs::write(&users, "\"postgres\" \"\"\n").expect("write the pooler's users");
            let config = dir.join("pgbouncer.ini");
            let own: String = settings.iter().map(|setting| format!("{setting}\n")).collect();
            let text = format!(
                "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
                 unix_socket_dir =\nauth_type = trust\nauth_file = {}\nmax_client_conn = 500\ndefault_pool_size = 10\n{own}",
                postgres.port(),
                users.display(),
            );
            fs::write(&config, text).expect("write the pooler's settings");
            programs.give_to_server_user(&dir);
            programs.give_to_server_user(&users);
            programs.give_to_server_user(&config);
            let log = fs::File::create(dir.join("log")).expect("open the pooler's log");
            let mut command = programs.command(PROGRAM);
            command.arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
            let mut server = GuardedChild::spawn(&mut command, End::Kill);
            let accepts = eventually_some(START_DEADLINE, "pgbouncer accepts connections", || {
                let ended = server.ended().is_some();
                async move {
                    let accepts = TcpStream::connect(("127.0.0.1", port)).await.is_ok();
                    (ended || accepts).then_some(accepts && !ended)
                }
            });
            if accepts.await {
                return Self { dir, port, _server: server };
            }
        }
        let log = fs::read_to_string(dir.join("log")).unwrap_or_default();
        panic!("pgbouncer did not start on any of {PORT_ATTEMPTS} free ports:\n{log}");
    }

    /// The URL of a database of the server behind it, given the server's own.
    pub fn url(&self, url: &str) -> String {
        let (_, database) = url.rsplit_once('/').expect("a URL with a database");
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.dir).ok();
    }
}
