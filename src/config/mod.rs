//! The one table of settings, and the one place that reads the environment.
//!
//! Each setting is one field of [`Settings`]: its flag, its variable `REVEILLE_…`, its key in the TOML file
//! (the flag without dashes in front), its default and its explanation. Precedence: default < file <
//! environment < flag. A file's values are put in as defaults, so they take the same way through the same
//! parsers as everything else.
//!
//! Never prints a secret: see [`redacted`].

pub(crate) mod connections;
mod environment;
mod file;
mod print;
mod values;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use reveille_shared::model::access::Scope;
use reveille_shared::runtime::fault::Faults;
use reveille_shared::runtime::seal::SealingKey;
use reveille_shared::runtime::tzdata::Source;
use reveille_worker::Secrets;
use uuid::Uuid;

pub(crate) use self::print::print;
use self::values::{duration, is_otlp_endpoint, log_filter, namespace, scope, share, timezone};
pub(crate) use self::values::{otlp_headers, redacted};

/// Reveille wakes your services on time: register a schedule over HTTP, be called when it is due.
#[derive(Clone, Debug, Parser)]
#[command(name = "reveille", version, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

/// What the process does.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum Command {
    /// Run everything in one process; what happens without a command
    Serve,
    /// Run the REST API
    Api,
    /// Run a monitor: one of them leads, the others stand by
    Monitor,
    /// Run a worker
    Worker,
    /// Bring the database's schema up to date and end
    Migrate,
    /// Check configuration, database and Redis, and say in words what is wrong; exit status 1 when something is
    Doctor {
        /// Print one JSON array of findings instead of text
        #[arg(long)]
        json: bool,
    },
    /// Receive HTTP requests and print them: a target to try schedules on
    Echo {
        /// Status to answer with
        #[arg(long, value_name = "STATUS", default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..600))]
        status: u16,
    },
    /// Make, list and take back the keys that callers of the API send
    Key {
        #[command(subcommand)]
        action: KeyAction,
    },
    /// Seal all stored secrets anew under the first secret key; only then may the other keys go
    Reseal,
    /// Print the settings in force as a TOML file, secrets masked
    Config {
        /// Print the table of all settings in Markdown instead
        #[arg(long)]
        markdown: bool,
    },
}

/// What is done with keys.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum KeyAction {
    /// Make a key and print it, this once
    Create {
        /// What it lets its holder do: `read`, `write` (read and change), `admin` (everything)
        #[arg(long, value_name = "SCOPE", value_parser = scope)]
        scope: Scope,
        /// Limit it to the schedules of one application
        #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
        application: Option<String>,
        /// A name for people
        #[arg(long, value_name = "TEXT", default_value = "")]
        name: String,
        /// How long it is valid; without it until it is revoked
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        expires: Option<Duration>,
    },
    /// List the keys, without what is secret
    List,
    /// Take a key back: processes that know it refuse it within 30 seconds
    Revoke {
        /// Its id, as `list` shows it
        #[arg(value_name = "ID")]
        id: Uuid,
    },
}

/// All settings of all roles, so that one file can serve a whole deployment.
#[derive(Args, Clone, Debug)]
pub(crate) struct Settings {
    /// TOML file with settings
    #[arg(long, env = "REVEILLE_CONFIG", value_name = "PATH", global = true)]
    pub(crate) config: Option<PathBuf>,

    /// Where schedules and runs are kept: `sqlite:PATH` or `postgres://…`; without it, a SQLite file in the data directory (`serve`, `migrate`, `doctor`)
    #[arg(long, env = "REVEILLE_DATABASE_URL", value_name = "URL", global = true, hide_env_values = true)]
    pub(crate) database_url: Option<String>,

    /// Connections to the database, at most
    #[arg(long, env = "REVEILLE_DATABASE_CONNECTIONS", value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..1000), global = true)]
    pub(crate) database_connections: u32,

    /// Directory of the SQLite file when no database is named
    #[arg(long, env = "REVEILLE_DATA_DIR", value_name = "PATH", default_value = "data", global = true)]
    pub(crate) data_dir: PathBuf,

    /// Redis that carries the wake-ups between processes: `redis://…`, `redis+sentinel://host,…/master` or `redis+cluster://host,…`, with `rediss` for TLS; without it they stay in the process (`serve` only)
    #[arg(long, env = "REVEILLE_REDIS_URL", value_name = "URL", global = true, hide_env_values = true)]
    pub(crate) redis_url: Option<String>,

    /// Prefix of all names in Redis: one per database
    #[arg(long, env = "REVEILLE_NAMESPACE", value_name = "NAME", default_value = "reveille", value_parser = namespace, global = true)]
    pub(crate) namespace: String,

    /// Address of the REST API, with health and metrics [default: 127.0.0.1:9902; `echo`: 127.0.0.1:3000]
    #[arg(long, env = "REVEILLE_LISTEN", value_name = "ADDRESS", global = true)]
    pub(crate) listen: Option<SocketAddr>,

    /// Address of health and metrics [default: 127.0.0.1:0, any free port, for `monitor` and `worker`; none for `serve` and `api`, which have them at --listen]
    #[arg(long, env = "REVEILLE_OPS_LISTEN", value_name = "ADDRESS", global = true)]
    pub(crate) ops_listen: Option<SocketAddr>,

    /// Token of the operator, who may do everything, sent as `Authorization: Bearer …`; callers get keys of their own (`reveille key`)
    #[arg(long, env = "REVEILLE_API_TOKEN", value_name = "TOKEN", global = true, hide_env_values = true)]
    pub(crate) api_token: Option<String>,

    /// Serve the API on an address that others can reach although there is neither a token nor a key
    #[arg(long, env = "REVEILLE_INSECURE_LISTEN", action = ArgAction::SetTrue, global = true)]
    pub(crate) insecure_listen: bool,

    /// URL under which others reach the API: where no key is needed, its host is answered beside loopback names and addresses
    #[arg(long, env = "REVEILLE_PUBLIC_URL", value_name = "URL", global = true)]
    pub(crate) public_url: Option<url::Url>,

    /// Requests per second that one application may make, twice as many at once; 0: any number
    #[arg(long, env = "REVEILLE_RATE_LIMIT", value_name = "COUNT", default_value_t = 0, global = true)]
    pub(crate) rate_limit: u32,

    /// Schedules that one application may have; 0: any number
    #[arg(long, env = "REVEILLE_QUOTA_SCHEDULES", value_name = "COUNT", default_value_t = 0, global = true)]
    pub(crate) quota_schedules: u32,

    /// Runs of one application that may be due in the same minute; 0: any number
    #[arg(long, env = "REVEILLE_QUOTA_DUE_PER_MINUTE", value_name = "COUNT", default_value_t = 0, global = true)]
    pub(crate) quota_due_per_minute: u32,

    /// Keys that seal the secrets of documents in the database, separated by commas: 32 random bytes in base64 each; the first seals, all open; without it, `serve` makes one in the data directory
    #[arg(
        long,
        env = "REVEILLE_SECRET_KEY",
        value_name = "KEYS",
        value_delimiter = ',',
        global = true,
        hide_env_values = true
    )]
    pub(crate) secret_key: Vec<String>,

    /// Names of headers whose values are secret, beside Authorization, Proxy-Authorization, Cookie and X-Api-Key, separated by commas
    #[arg(long, env = "REVEILLE_SECRET_HEADERS", value_name = "NAMES", value_delimiter = ',', value_parser = clap::builder::NonEmptyStringValueParser::new(), global = true)]
    pub(crate) secret_headers: Vec<String>,

    /// Directory of the secrets that documents and connections refer to by `secret://name`: `NAME` for all, `APPLICATION/NAME` for one application alone, `.connections/NAME` for connections alone; a variable `REVEILLE_REF_NAME` serves all, too
    #[arg(long, env = "REVEILLE_SECRETS_DIR", value_name = "PATH", global = true)]
    pub(crate) secrets_dir: Option<PathBuf>,

    /// PEM file of certificate authorities to trust beside the system's when targets are called, and in their place when Redis carries the wake-ups; for PostgreSQL say `?sslmode=verify-full&sslrootcert=PATH` in its URL, for a named connection `ca_file`
    #[arg(long, env = "REVEILLE_CA_FILE", value_name = "PATH", global = true)]
    pub(crate) ca_file: Option<PathBuf>,

    /// Zone of schedules that name none
    #[arg(long, env = "REVEILLE_DEFAULT_TIMEZONE", value_name = "ZONE", default_value = "UTC", value_parser = timezone, global = true)]
    pub(crate) default_timezone: String,

    /// Rules of time zones: `auto` (the newer of the machine's and those in the binary), `system`, `bundled`, or a folder
    #[arg(long, env = "REVEILLE_TZDATA", value_name = "SOURCE", default_value = "auto", global = true)]
    pub(crate) tzdata: Source,

    /// What a target receives when its task does not say: the task's data, or the whole schedule document
    #[arg(long, env = "REVEILLE_DEFAULT_BODY", value_name = "BODY", default_value = "data", global = true)]
    pub(crate) default_body: DefaultBody,

    /// Runs that a worker dispatches at the same time, at most
    #[arg(long, env = "REVEILLE_CONCURRENCY", value_name = "COUNT", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=10_000), global = true)]
    pub(crate) concurrency: u32,

    /// Queues that a worker serves, separated by commas
    #[arg(long, env = "REVEILLE_QUEUES", value_name = "NAMES", default_value = "default", value_delimiter = ',', value_parser = clap::builder::NonEmptyStringValueParser::new(), global = true)]
    pub(crate) queues: Vec<String>,

    /// Name of a worker, for people [default: host name and process id]
    #[arg(long, env = "REVEILLE_WORKER_NAME", value_name = "NAME", global = true)]
    pub(crate) worker_name: Option<String>,

    /// How long a worker may hold a run without a sign of life before another one takes it
    #[arg(long, env = "REVEILLE_LEASE", value_name = "DURATION", default_value = "30s", value_parser = duration, global = true)]
    pub(crate) lease: Duration,

    /// How long a stopping process waits for calls in flight
    #[arg(long, env = "REVEILLE_DRAIN", value_name = "DURATION", default_value = "25s", value_parser = duration, global = true)]
    pub(crate) drain: Duration,

    /// Address ranges that tasks may not call, separated by commas: `10.0.0.0/8,fd00::/8`; beside them link-local addresses, always, and loopback unless the process itself listens there
    #[arg(long, env = "REVEILLE_TARGETS_DENY", value_name = "RANGES", value_delimiter = ',', global = true)]
    pub(crate) targets_deny: Vec<reveille_worker::Cidr>,

    /// Exceptions from the denied ranges, separated by commas; `127.0.0.0/8,::1` permits loopback
    #[arg(long, env = "REVEILLE_TARGETS_ALLOW", value_name = "RANGES", value_delimiter = ',', global = true)]
    pub(crate) targets_allow: Vec<reveille_worker::Cidr>,

    /// HTTP proxy through which HTTP targets are called (`http://[user:password@]host:port`, CONNECT): it is asked for addresses, which are judged here as without it
    #[arg(long, env = "REVEILLE_EGRESS_PROXY", value_name = "URL", global = true, hide_env_values = true)]
    pub(crate) egress_proxy: Option<url::Url>,

    /// TOML file of connections that tasks may name, a table each: `[orders]` with `type` (rest, kafka, redis), `host` and, as needed, `headers`, `username`, `password`, `sasl_mechanism`, `tls`, `ca_file`
    #[arg(long, env = "REVEILLE_CONNECTIONS", value_name = "PATH", global = true)]
    pub(crate) connections: Option<PathBuf>,

    /// How often the leading monitor reads the database although nothing seems to happen; never less often than the lease
    #[arg(long, env = "REVEILLE_RECHECK", value_name = "DURATION", default_value = "30s", value_parser = duration, global = true)]
    pub(crate) recheck: Duration,

    /// How often the leading monitor shows that it lives
    #[arg(long, env = "REVEILLE_BEAT", value_name = "DURATION", default_value = "2s", value_parser = duration, global = true)]
    pub(crate) beat: Duration,

    /// How long a monitor leads without a beat; at least two beats
    #[arg(long, env = "REVEILLE_MONITOR_TTL", value_name = "DURATION", default_value = "6s", value_parser = duration, global = true)]
    pub(crate) monitor_ttl: Duration,

    /// How long a worker hears no monitor before it looks into the database by itself
    #[arg(long, env = "REVEILLE_DEGRADED_AFTER", value_name = "DURATION", default_value = "10s", value_parser = duration, global = true)]
    pub(crate) degraded_after: Duration,

    /// How often it does so then, ± 20 %
    #[arg(long, env = "REVEILLE_DEGRADED_CHECK", value_name = "DURATION", default_value = "30s", value_parser = duration, global = true)]
    pub(crate) degraded_check: Duration,

    /// How long finished runs and schedules are kept
    #[arg(long, env = "REVEILLE_RETAIN_RUNS", value_name = "DURATION", default_value = "3d", value_parser = duration, global = true)]
    pub(crate) retain_runs: Duration,

    /// How long dead letters are kept
    #[arg(long, env = "REVEILLE_RETAIN_DEAD", value_name = "DURATION", default_value = "30d", value_parser = duration, global = true)]
    pub(crate) retain_dead: Duration,

    /// How long entries of the history are kept
    #[arg(long, env = "REVEILLE_RETAIN_HISTORY", value_name = "DURATION", default_value = "30d", value_parser = duration, global = true)]
    pub(crate) retain_history: Duration,

    /// Leave the database's schema as it is
    #[arg(long, env = "REVEILLE_NO_MIGRATE", action = ArgAction::SetTrue, global = true)]
    pub(crate) no_migrate: bool,

    /// File that receives the bound addresses and the process id as JSON once everything is ready
    #[arg(long, env = "REVEILLE_READY_FILE", value_name = "PATH", global = true)]
    pub(crate) ready_file: Option<PathBuf>,

    /// Form of the log, on stderr
    #[arg(long, env = "REVEILLE_LOG_FORMAT", value_name = "FORMAT", default_value = "text", global = true)]
    pub(crate) log: LogFormat,

    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or by module: `info,reveille_worker=debug`
    #[arg(long, env = "REVEILLE_LOG", value_name = "FILTER", default_value = "info", value_parser = log_filter, global = true)]
    pub(crate) log_level: String,

    /// Collector that receives traces over OTLP/HTTP, by its base address: `http://127.0.0.1:4318`; without it there are none
    #[arg(long, env = "REVEILLE_OTLP_ENDPOINT", value_name = "URL", global = true, hide_env_values = true)]
    pub(crate) otlp_endpoint: Option<String>,

    /// Share of the traces begun here that are recorded, 0 to 1; a caller's trace is recorded when the caller says so
    #[arg(long, env = "REVEILLE_OTLP_SAMPLE", value_name = "SHARE", default_value = "1", value_parser = share, global = true)]
    pub(crate) otlp_sample: f64,

    /// Headers for the collector, separated by commas: `name=value,name=value`
    #[arg(long, env = "REVEILLE_OTLP_HEADERS", value_name = "HEADERS", global = true, hide_env_values = true)]
    pub(crate) otlp_headers: Option<String>,

    /// Fault points to arm: `point=abort|hang`, for tests
    #[cfg(debug_assertions)]
    #[arg(long, env = "REVEILLE_FAULT", value_name = "FAULTS", value_parser = Faults::parse, hide = true, global = true)]
    pub(crate) fault: Option<Faults>,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One object per line
    Json,
}

/// What a target receives by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DefaultBody {
    /// The task's data
    Data,
    /// The whole schedule document
    Schedule,
}

/// A command line that was read and makes sense, with where each value came from.
pub(crate) struct Config {
    pub(crate) command: Command,
    pub(crate) settings: Settings,
    /// The command as it was parsed: its arguments carry names, help and the file's values.
    pub(crate) parser: clap::Command,
    pub(crate) matches: ArgMatches,
}

impl Config {
    /// Reads arguments, environment and file.
    ///
    /// # Errors
    /// One sentence that names the flag or the key; also the text of `--help`. See [`clap::Error::exit`].
    pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        let mut parser = Cli::command();
        let mut matches = parser.clone().try_get_matches_from(&arguments)?;
        if let Some(path) = matches.get_one::<PathBuf>("config") {
            parser = file::as_defaults(parser, path).map_err(invalid)?;
            matches = parser.clone().try_get_matches_from(&arguments)?;
        }
        let Cli { command, settings } = Cli::from_arg_matches(&matches)?;
        let command = command.unwrap_or(Command::Serve);
        settings.check(&command).map_err(invalid)?;
        check_listen(&command, &matches).map_err(invalid)?;
        Ok(Self { command, settings, parser, matches })
    }
}

/// A file and an environment may serve a whole deployment; who writes a flag expects something of it.
fn check_listen(command: &Command, matches: &ArgMatches) -> Result<(), String> {
    let role = match command {
        Command::Monitor => "monitor",
        Command::Worker => "worker",
        _ => return Ok(()),
    };
    if matches.value_source("listen") != Some(ValueSource::CommandLine) {
        return Ok(());
    }
    Err(format!(
        "--listen is the address of the API, which `reveille {role}` does not serve: its health and metrics have --ops-listen"
    ))
}

impl Settings {
    /// Where the secrets are that documents and connections refer to.
    pub(crate) fn secrets(&self) -> Secrets {
        Secrets {
            dir: self.secrets_dir.clone(),
            variables: environment::variables("REVEILLE_REF_"),
            signing: environment::variables("REVEILLE_SIGN_"),
        }
    }

    /// The database, whether it was named or not.
    pub(crate) fn database(&self) -> String {
        let embedded = || format!("sqlite:{}", self.data_dir.join("reveille.db").display());
        self.database_url.clone().unwrap_or_else(embedded)
    }

    pub(crate) fn faults(&self) -> Faults {
        #[cfg(debug_assertions)]
        return self.fault.clone().unwrap_or_default();
        #[cfg(not(debug_assertions))]
        Faults::none()
    }

    /// Whether others than this machine's users can reach the API, and nothing was said to make that right.
    pub(crate) fn is_reachable(&self) -> bool {
        self.listen.is_some_and(|address| !address.ip().is_loopback()) && !self.insecure_listen
    }

    /// What no single setting can know.
    fn check(&self, command: &Command) -> Result<(), String> {
        let role = match command {
            Command::Api => "api",
            Command::Monitor => "monitor",
            Command::Worker => "worker",
            _ => "",
        };
        if !role.is_empty() && self.database_url.is_none() {
            return Err(format!(
                "`reveille {role}` shares a database with other processes: name it with --database-url"
            ));
        }
        if !role.is_empty() && self.redis_url.is_none() {
            return Err(format!("`reveille {role}` hears of other processes through Redis: name it with --redis-url"));
        }
        if self.otlp_endpoint.as_deref().is_some_and(|url| !is_otlp_endpoint(url)) {
            // Without quoting it: there may be a password in it.
            return Err(
                "--otlp-endpoint is an http or https URL without user, password and query; credentials belong \
                        into --otlp-headers"
                    .to_owned(),
            );
        }
        if self.otlp_headers.as_deref().is_some_and(|text| otlp_headers(text).len() != text.split(',').count()) {
            return Err("--otlp-headers is a list of name=value, separated by commas".to_owned());
        }
        // No parsers of these values: clap's refusal of a value quotes it.
        if let Some(token) = &self.api_token {
            values::check_token(token).map_err(|error| format!("--api-token: {error}"))?;
        }
        for (index, key) in self.secret_key.iter().enumerate() {
            key.parse::<SealingKey>().map_err(|error| format!("--secret-key, key {}: {error}", index + 1))?;
        }
        if self.lease < Duration::from_secs(3) {
            return Err("--lease must be at least 3s: a worker stops trusting it 2s before it ends".to_owned());
        }
        if self.monitor_ttl < 2 * self.beat {
            return Err("--monitor-ttl must be at least twice --beat".to_owned());
        }
        if self.degraded_after <= self.beat {
            return Err("--degraded-after must be longer than --beat".to_owned());
        }
        Ok(())
    }
}

fn invalid(sentence: String) -> clap::Error {
    clap::Error::raw(ErrorKind::ValueValidation, sentence + "\n")
}
