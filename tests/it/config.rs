//! The one table of settings: precedence, refusals, secrets. Through the binary, because the environment
//! belongs to a process.

use reveille_testkit::scratch_dir;
use tokio::process::Command;

type Args<'a> = &'a [&'a str];
type Env<'a> = &'a [(&'a str, &'a str)];

struct Answer {
    status: i32,
    stdout: String,
    stderr: String,
}

async fn reveille(args: Args<'_>, env: Env<'_>) -> Answer {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reveille"));
    // Without what the caller's environment may hold.
    let output = command.env_clear().envs(env.iter().copied()).args(args).output().await.expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let status = output.status.code().expect("an exit status");
    Answer { status, stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn file(content: &str) -> String {
    let path = scratch_dir("config").join("reveille.toml");
    std::fs::write(&path, content).expect("write the file");
    path.display().to_string()
}

#[tokio::test]
async fn flags_beat_the_environment_beats_the_file_beats_the_default() {
    let path = file("lease = \"10s\"\n");
    let from_file = ["config", "--config", &path];
    let all = ["config", "--config", &path, "--lease", "50s"];
    let environment = [("REVEILLE_LEASE", "40s")];
    let cases: [(Args, Env, &str); 4] = [
        (&["config"], &[], "lease = \"30s\" # default"),
        (&from_file, &[], "lease = \"10s\" # from the file"),
        (&from_file, &environment, "lease = \"40s\" # from REVEILLE_LEASE"),
        (&all, &environment, "lease = \"50s\" # from the command line"),
    ];
    for (args, env, line) in cases {
        let answer = reveille(args, env).await;
        assert!(answer.stdout.lines().any(|printed| printed == line), "{line}\n{}{}", answer.stdout, answer.stderr);
        assert_eq!(answer.status, 0);
    }
}

#[tokio::test]
async fn a_file_speaks_of_everything() {
    let path = file(
        "queues = [\"mail\", \"calls\"]\nconcurrency = 7\nno-migrate = true\nmonitor_ttl = \"9s\"\nlog = \"json\"\n",
    );
    // The file is found by the environment too, and a flag may stand before the command.
    let answer = reveille(&["--namespace", "other", "config"], &[("REVEILLE_CONFIG", &path)]).await;
    for line in [
        "queues = \"mail,calls\" # from the file",
        "concurrency = 7 # from the file",
        "no-migrate = true # from the file",
        "monitor-ttl = \"9s\" # from the file",
        "log = \"json\" # from the file",
        "namespace = \"other\" # from the command line",
    ] {
        assert!(answer.stdout.lines().any(|printed| printed == line), "{line}\n{}{}", answer.stdout, answer.stderr);
    }
}

/// What is printed can be used as a file, and then says the same.
#[tokio::test]
async fn the_settings_in_force_are_a_file() {
    let first = reveille(&["config", "--lease", "20s", "--queues", "a,b", "--no-migrate"], &[]).await.stdout;
    let again = reveille(&["config", "--config", &file(&first)], &[]).await;
    assert_eq!(again.status, 0, "{}", again.stderr);
    for line in ["lease = \"20s\" # from the file", "queues = \"a,b\" # from the file"] {
        assert!(again.stdout.contains(line), "{}", again.stdout);
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_in_one_sentence() {
    let unknown = file("leese = \"20s\"\n");
    let bad_value = file("lease = \"20\"\n");
    let bad_switch = file("no-migrate = \"perhaps\"\n");
    let table = file("[worker]\nlease = \"20s\"\n");
    let cases: [(Args, &str); 22] = [
        (&["--lease", "4x"], "--lease"),
        (&["--lease", "0s"], "--lease"),
        (&["--lease", "1s"], "--lease must be at least 3s"),
        (&["--lease", "99999999999999999999d"], "--lease"),
        (&["--monitor-ttl", "3s"], "--monitor-ttl must be at least twice --beat"),
        (&["--degraded-after", "2s"], "--degraded-after must be longer than --beat"),
        (&["--concurrency", "0"], "--concurrency"),
        (&["--queues", "a,,b"], "--queues"),
        (&["--default-timezone", "Mars/Olympus"], "--default-timezone"),
        (&["--namespace", "a b"], "--namespace"),
        (&["--api-token", "short"], "--api-token"),
        (&["--targets-deny", "10.0.0.0/33"], "--targets-deny"),
        (&["--log-level", "verbose"], "there are error, warn, info, debug, trace and off"),
        (&["--log-level", "info,reveille_worker=loud"], "`loud` is no level"),
        (
            &["worker", "--listen", "127.0.0.1:0", "--database-url", "postgres://h/d", "--redis-url", "redis://h"],
            "--ops-listen",
        ),
        (
            &["monitor", "--listen", "127.0.0.1:0", "--database-url", "postgres://h/d", "--redis-url", "redis://h"],
            "--ops-listen",
        ),
        (&["worker"], "--database-url"),
        (&["monitor", "--database-url", "postgres://h/d"], "--redis-url"),
        (&["--config", &unknown], "unknown key `leese`"),
        (&["--config", &bad_value], "--lease"),
        (&["--config", &bad_switch], "`no-migrate` is true or false"),
        (&["--config", &table], "unknown key `worker`"),
    ];
    for (args, named) in cases {
        let answer = reveille(args, &[]).await;
        let first_line = answer.stderr.lines().next().unwrap_or_default();
        assert!(first_line.starts_with("error: ") && first_line.contains(named), "{args:?}: {}", answer.stderr);
        assert_eq!(answer.status, 2, "{args:?}");
    }
}

#[tokio::test]
async fn levels_are_for_all_or_by_module() {
    for level in ["off", "WARN", "info,reveille_worker=debug", "reveille_api=trace", "info,[request{route=x}]=debug"] {
        assert_eq!(reveille(&["config", "--log-level", level], &[]).await.status, 0, "{level}");
    }
}

#[tokio::test]
async fn secrets_are_never_shown() {
    let secrets = [
        ("REVEILLE_DATABASE_URL", "postgres://user:canary1@127.0.0.1:1/db?password=canary2"),
        ("REVEILLE_REDIS_URL", "redis://:canary3@127.0.0.1:1"),
        ("REVEILLE_API_TOKEN", "canary4canary4canary4"),
        ("REVEILLE_OTLP_HEADERS", "x-key=canary5"),
    ];
    for args in [&["config"][..], &["doctor"], &["doctor", "--json"], &["--help"]] {
        let answer = reveille(args, &secrets).await;
        let shown = answer.stdout + &answer.stderr;
        assert!(!shown.contains("canary"), "{args:?}: {shown}");
        assert!(!shown.is_empty());
    }
}

#[tokio::test]
async fn a_collector_is_judged_without_quoting_its_credentials() {
    for (name, value, named) in [
        ("REVEILLE_OTLP_ENDPOINT", "http://user:canary@127.0.0.1:4318", "--otlp-endpoint"),
        ("REVEILLE_OTLP_ENDPOINT", "https://collector/?key=canary", "--otlp-endpoint"),
        ("REVEILLE_OTLP_ENDPOINT", "canary:4317", "--otlp-endpoint"),
        ("REVEILLE_OTLP_HEADERS", "x-key=1,canary", "--otlp-headers"),
        ("REVEILLE_OTLP_HEADERS", "x key=canary", "--otlp-headers"),
        ("REVEILLE_OTLP_SAMPLE", "1.5", "--otlp-sample"),
        ("REVEILLE_OTLP_SAMPLE", "NaN", "--otlp-sample"),
    ] {
        let answer = reveille(&["config"], &[(name, value)]).await;
        assert!(answer.status == 2 && answer.stderr.contains(named), "{value}: {}", answer.stderr);
        assert!(!answer.stderr.contains("canary"), "{}", answer.stderr);
    }
}

#[tokio::test]
async fn the_table_for_the_readme_names_every_setting() {
    let table = reveille(&["config", "--markdown"], &[]).await.stdout;
    let help = reveille(&["--help"], &[]).await.stdout;
    let flags: Vec<&str> = help.lines().filter_map(|line| line.trim().strip_prefix("--")).collect();
    assert!(flags.len() > 20, "{help}");
    for flag in flags {
        let name = flag.split([' ', ',']).next().unwrap_or_default();
        assert!(name == "version" || table.contains(&format!("`--{name}")), "{name} is missing");
    }
    assert!(table.contains("| `--recheck DURATION` | `REVEILLE_RECHECK` | `30s` |"), "{table}");
}
