//! Throwaway PostgreSQL servers: a real one, on a free loopback port, fsync off.
//!
//! `initdb` runs once per test process; further servers copy its result.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::OnceCell;

use crate::child::{End, GuardedChild};
use crate::scratch::scratch_dir;
use crate::{eventually_some, free_port};

const START_DEADLINE: Duration = Duration::from_secs(60);
/// Attempts to find a port nobody takes between asking for it and listening on it.
const PORT_ATTEMPTS: u32 = 5;
const INSTALL: &str = "PostgreSQL is not installed: run ./ci/test, or `apt-get install postgresql`, \
                       or point REVEILLE_PG_BIN at the folder with initdb and postgres";
const SETTINGS: [&str; 6] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=", // a socket's path may not be longer than 107 bytes; scratch folders are
    "fsync=off",
    "full_page_writes=off",
    "max_connections=200",
    "shared_preload_libraries=pg_stat_statements",
];

/// In `template1` for every database created later, in `postgres` for the one who reads them.
const ADD_STATISTICS: &str = r#"
set -e
for database in template1 postgres; do
  echo 'CREATE EXTENSION pg_stat_statements' | "$0" --single -F -D "$1" "$database"
done
"#;

/// A PostgreSQL server that ends with this value, and with the test process at the latest.
pub struct Postgres {
    programs: Programs,
    data: PathBuf,
    settings: Vec<String>,
    port: u16,
    server: Mutex<GuardedChild>,
    names: AtomicU32,
}

impl Postgres {
    /// The one server of this test process, for tests that only need a database of their own.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Postgres> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// A private server, to be killed and restarted.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// A private server that speaks TLS with this certificate and key (PEM), and still without.
    pub async fn start_with_tls(certificate: &str, key: &str) -> Self {
        Self::start_in(&["ssl=on"], &[("server.crt", certificate), ("server.key", key)]).await
    }

    /// A private server with further settings, such as `fsync=on`.
    pub async fn start_with(settings: &[&str]) -> Self {
        Self::start_in(settings, &[]).await
    }

    /// With these files in its data folder, which are nobody else's to read.
    async fn start_in(settings: &[&str], files: &[(&str, &str)]) -> Self {
        let programs = Programs::find();
        let data = scratch_dir("postgres");
        programs.give_to_server_user(&data);
        let data = data.join("data");
        programs.run("cp", &["-a".as_ref(), template(&programs).await.as_os_str(), data.as_os_str()]);
        for (name, content) in files {
            let path = data.join(name);
            fs::write(&path, content).expect("write a file of the server");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("close a file of the server");
            programs.give_to_server_user(&path);
        }

        let settings: Vec<String> = SETTINGS.iter().chain(settings).map(ToString::to_string).collect();
        for _ in 1..PORT_ATTEMPTS {
            let port = free_port();
            if let Ok(server) = try_serve(&programs, &data, &settings, port).await {
                let server = Mutex::new(server);
                return Self { programs, data, settings, port, server, names: AtomicU32::new(0) };
            }
        }
        let port = free_port();
        let server = serve(&programs, &data, &settings, port).await;
        Self { programs, data, settings, port, server: Mutex::new(server), names: AtomicU32::new(0) }
    }

    /// A standby that streams from this server, as soon as it does.
    pub async fn start_standby(&self) -> Self {
        let programs = Programs::find();
        let data = scratch_dir("standby");
        programs.give_to_server_user(&data);
        let data = data.join("data");
        let port = self.port.to_string();
        let flags = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-R", "-X", "stream", "-c", "fast", "-D"];
        // A client's program, which may be installed elsewhere than the server.
        let beside = |bin: &PathBuf| bin.join("pg_basebackup").is_file();
        let mut bins = [programs.bin.clone()].into_iter().chain(debian_bins());
        let copy = bins.rfind(beside).expect(INSTALL).join("pg_basebackup");
        programs.run(&copy, &[&flags.map(AsRef::as_ref)[..], &[data.as_os_str()]].concat());
        let (settings, port) = (self.settings.clone(), free_port());
        let server = Mutex::new(serve(&programs, &data, &settings, port).await);
        Self { programs, data, settings, port, server, names: AtomicU32::new(0) }
    }

    /// Makes a standby the primary.
    pub async fn promote(&self) {
        self.execute("SELECT pg_promote()".to_owned()).await;
    }

    /// Stops every process of the server where it is, as a machine does that hangs: connections stay.
    pub fn freeze(&self) {
        self.signal_all("-STOP");
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self) {
        self.signal_all("-CONT");
    }

    fn signal_all(&self, signal: &str) {
        let pid = self.pid().to_string();
        // Each process of the server is a group of its own.
        let children = Command::new("pgrep").args(["-P", &pid]).output().expect("run pgrep").stdout;
        let children = String::from_utf8_lossy(&children).into_owned();
        Command::new("kill").arg(signal).arg(&pid).args(children.split_whitespace()).status().expect("run kill");
    }

    /// Creates a database nobody else uses and answers its URL.
    pub async fn fresh_database(&self) -> String {
        let name = self.fresh_name("test");
        self.execute(format!("CREATE DATABASE {name}")).await;
        self.url(&name)
    }

    /// Creates a superuser nobody else uses, so that its statements can be counted, and answers its name.
    pub async fn fresh_role(&self) -> String {
        let role = self.fresh_name("role");
        self.execute(format!("CREATE ROLE {role} SUPERUSER LOGIN")).await;
        role
    }

    /// `url` of one of this server's databases, for `role`.
    pub fn url_as(&self, url: &str, role: &str) -> String {
        url.replacen("postgres://postgres@", &format!("postgres://{role}@"), 1)
    }

    /// The statements `role` executed since it exists, in any database: text and number of executions.
    /// A statement counts when it is over.
    pub async fn statements(&self, role: &str) -> Vec<(String, i64)> {
        let mut admin = self.admin().await;
        sqlx::query_as(
            "SELECT query, sum(calls)::bigint FROM pg_stat_statements
             JOIN pg_roles ON pg_roles.oid = userid WHERE rolname = $1 GROUP BY query ORDER BY query",
        )
        .bind(role)
        .fetch_all(&mut admin)
        .await
        .expect("read pg_stat_statements")
    }

    /// How many statements `role` executed since it exists.
    pub async fn statement_count(&self, role: &str) -> i64 {
        self.statements(role).await.iter().map(|(_, calls)| calls).sum()
    }

    /// Ends the server as a crash would: connections break, nothing is written, the next start recovers.
    pub fn kill(&self) {
        self.server().stop();
    }

    /// Kills the server if it runs and starts it again on the same port; returns when it accepts connections.
    pub async fn restart(&self) {
        self.kill();
        let server = serve(&self.programs, &self.data, &self.settings, self.port).await;
        *self.server() = server;
    }

    /// The port it listens on, the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.server().pid()
    }

    /// The URL of one of its databases.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    fn fresh_name(&self, kind: &str) -> String {
        format!("{kind}_{}_{}", std::process::id(), self.names.fetch_add(1, Ordering::Relaxed))
    }

    async fn admin(&self) -> PgConnection {
        PgConnection::connect(&self.url("postgres")).await.expect("connect to the throwaway PostgreSQL")
    }

    async fn execute(&self, statement: String) {
        let mut admin = self.admin().await;
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut admin).await.expect("prepare the test's database");
        admin.close().await.ok();
    }

    fn server(&self) -> MutexGuard<'_, GuardedChild> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
        fs::remove_dir_all(&self.data).ok();
    }
}

/// A data folder as `initdb` leaves it, with `pg_stat_statements` in every database created from it.
async fn template(programs: &Programs) -> &'static Path {
    static TEMPLATE: OnceCell<PathBuf> = OnceCell::const_new();
    TEMPLATE
        .get_or_init(|| async {
            let dir = scratch_dir("postgres-template");
            programs.give_to_server_user(&dir);
            let flags = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-locale", "--no-sync", "-D"];
            let initdb = programs.bin.join("initdb");
            programs.run(&initdb, &[&flags.map(AsRef::as_ref)[..], &[dir.as_os_str()]].concat());
            let postgres = programs.bin.join("postgres");
            programs.run("sh", &["-c".as_ref(), ADD_STATISTICS.as_ref(), postgres.as_os_str(), dir.as_os_str()]);
            dir
        })
        .await
}

async fn serve(programs: &Programs, data: &Path, settings: &[String], port: u16) -> GuardedChild {
    try_serve(programs, data, settings, port)
        .await
        .unwrap_or_else(|log| panic!("PostgreSQL on port {port} did not start:\n{log}"))
}

/// The server once it accepts connections, or its log when it gave up.
async fn try_serve(programs: &Programs, data: &Path, settings: &[String], port: u16) -> Result<GuardedChild, String> {
    let log = data.with_file_name("log");
    let log_file = File::options().create(true).append(true).open(&log).expect("open the server's log");
    let mut command = programs.command(programs.bin.join("postgres"));
    command.arg("-D").arg(data).arg("-p").arg(port.to_string());
    settings.iter().for_each(|setting| {
        command.arg("-c").arg(setting);
    });
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log_file);

    let mut server = GuardedChild::spawn(&mut command, End::Quit);
    let pid_file = data.join("postmaster.pid");
    let started = eventually_some(START_DEADLINE, "PostgreSQL accepts connections", || {
        let ended = server.ended().is_some();
        let ready = is_ready(&pid_file, server.pid());
        async move { (ended || ready).then_some(ready) }
    })
    .await;
    if started { Ok(server) } else { Err(fs::read_to_string(&log).unwrap_or_default()) }
}

/// Whether the server `pid` says in its pid file that it accepts connections: unlike a connection
/// attempt, this cannot be answered by another server on the same port. A standby says so in its own word.
fn is_ready(pid_file: &Path, pid: u32) -> bool {
    let content = fs::read_to_string(pid_file).unwrap_or_default();
    let mut lines = content.lines();
    lines.next() == Some(pid.to_string().as_str())
        && lines.nth(6).is_some_and(|status| matches!(status.trim(), "ready" | "standby"))
}

/// The server's programs and the user they run as: they refuse root.
pub(crate) struct Programs {
    bin: PathBuf,
    as_user: Option<&'static str>,
}

impl Programs {
    pub(crate) fn find() -> Self {
        let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        Self { bin: find_bin(), as_user: is_root.then_some("postgres") }
    }

    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let Some(user) = self.as_user else {
            return Command::new(program);
        };
        let mut command = Command::new("setpriv");
        let reuid = format!("--reuid={user}");
        let regid = format!("--regid={user}");
        command.args([&reuid, &regid, "--init-groups", "--"]).arg(program);
        command.current_dir("/"); // the test's folder may be closed to that user
        command
    }

    fn run(&self, program: impl AsRef<std::ffi::OsStr>, args: &[&std::ffi::OsStr]) {
        let program = program.as_ref();
        let output = self.command(program).args(args).stdin(Stdio::null()).output();
        let output = output.unwrap_or_else(|error| panic!("cannot run {program:?}: {error}"));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program:?} {args:?}: {}\n{stderr}", output.status);
    }

    pub(crate) fn give_to_server_user(&self, dir: &Path) {
        if let Some(user) = self.as_user {
            let status = Command::new("chown").arg(user).arg(dir).status().expect("run chown");
            assert!(status.success(), "there is no user {user} to run PostgreSQL as. {INSTALL}");
        }
    }
}

/// The folder with `initdb` and `postgres`: asked for, on the path, or Debian's newest.
fn find_bin() -> PathBuf {
    let holds_both = |dir: &PathBuf| dir.join("initdb").is_file() && dir.join("postgres").is_file();
    if let Some(dir) = std::env::var_os("REVEILLE_PG_BIN").map(PathBuf::from) {
        assert!(holds_both(&dir), "REVEILLE_PG_BIN={} holds no initdb and postgres", dir.display());
        return dir;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).find(holds_both);
    on_path.or_else(|| debian_bins().into_iter().rfind(holds_both)).unwrap_or_else(|| panic!("{INSTALL}"))
}

/// Debian's folders, the newest version last.
fn debian_bins() -> Vec<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut bins: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    bins.sort();
    bins
}
