//! The rules, each with what it must flag and what it must pass.

use super::source::Source;

/// Line numbers and what is wrong there.
type Findings = Vec<(usize, String)>;
/// A path and the text of a file there.
type Example = (&'static str, &'static str);

pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) find: fn(&Source) -> Findings,
    pub(crate) flags: &'static [Example],
    pub(crate) passes: &'static [Example],
}

const SIBLINGS: [&str; 3] = ["api", "monitor", "worker"];
const MAX_LINES: usize = 600;
const CLOCK: &str = "shared/src/runtime/clock.rs";
const LIFECYCLE: &str = "shared/src/runtime/lifecycle.rs";
/// Outlives all tasks, which write to it.
const LOG: &str = "src/telemetry/lines.rs";
const STORE: &str = "shared/src/store/";
const CONFIG: &str = "src/config/";

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "shared knows no sibling, no HTTP framework and no broker client",
        find: |source| {
            let unwanted =
                ["reveille_api", "reveille_monitor", "reveille_worker", "reveille", "axum", "reqwest", "rdkafka"];
            if source.path == "shared/Cargo.toml" {
                return dependencies(source, &unwanted.map(|name| name.replace('_', "-")));
            }
            if source.path.starts_with("shared/src/") { paths(source, &unwanted) } else { Vec::new() }
        },
        flags: &[
            ("shared/Cargo.toml", "[dependencies]\naxum.workspace = true"),
            ("shared/Cargo.toml", "[dev-dependencies]\nreveille-api = { path = \"../api\" }"),
            ("shared/Cargo.toml", "[target.'cfg(unix)'.dependencies]\nweb = { package = \"axum\", version = \"1\" }"),
            ("shared/src/lib.rs", "use axum::Router;"),
            ("shared/src/lib.rs", "fn f() -> reqwest::Client {}"),
        ],
        passes: &[
            (
                "shared/Cargo.toml",
                "[dependencies]\nredis.workspace = true\n[dev-dependencies]\nreveille-testkit = \"1\"",
            ),
            ("shared/src/lib.rs", "//! Never axum::Router."),
            ("api/src/lib.rs", "use axum::Router;"),
        ],
    },
    Rule {
        name: "the model is pure",
        find: |source| {
            if !source.path.starts_with("shared/src/model/") {
                return Vec::new();
            }
            let parts = ["store", "bus", "runtime"];
            let crate_paths = parts.map(|part| format!("crate::{part}"));
            let super_paths = parts.map(|part| format!("super::{part}"));
            let outside = ["sqlx", "redis", "tokio", "tokio_util", "std::fs", "std::net", "std::thread"];
            [paths(source, &crate_paths), paths(source, &super_paths), paths(source, &outside)].concat()
        },
        flags: &[
            ("shared/src/model/run.rs", "use crate::{model::UnixMs, store::{Claim, StoreError}};"),
            ("shared/src/model/run.rs", "fn f(bus: &dyn crate::bus::Bus) {}"),
            ("shared/src/model/run.rs", "use super::super::runtime::clock::Clock;"),
            ("shared/src/model/run.rs", "use tokio::sync::watch;"),
        ],
        passes: &[
            ("shared/src/model/run.rs", "use super::task::Task; use crate::model::UnixMs;"),
            ("shared/src/store/mod.rs", "use crate::bus::Bus;"),
        ],
    },
    Rule {
        name: "SQL lives in the store",
        find: |source| {
            if !source.is_product() || source.path.starts_with(STORE) {
                return Vec::new();
            }
            let statements =
                ["SELECT ", "INSERT INTO ", "DELETE FROM ", "CREATE TABLE ", "ALTER TABLE ", "BEGIN IMMEDIATE"];
            let update = lines(&source.code, |line| line.contains("UPDATE ") && line.contains(" SET "));
            [paths(source, &["sqlx"]), texts(&source.code, &statements), update].concat()
        },
        flags: &[
            ("api/src/http.rs", "let rows = sqlx::query(text);"),
            ("src/doctor.rs", "use sqlx::Row;"),
            ("worker/src/claim.rs", "const Q: &str = \"SELECT id FROM runs\";"),
            ("monitor/src/sweep.rs", "run(r#\"UPDATE runs SET state = 1\"#)"),
        ],
        passes: &[
            ("shared/src/store/postgres/run.rs", "const Q: &str = \"SELECT id FROM runs\";"),
            ("tests/it/claim.rs", "sqlx::query(\"SELECT 1\")"),
            ("api/src/http.rs", "/// A SELECT of sqlx::Row is the store's.\nfn f() {}"),
        ],
    },
    Rule {
        name: "siblings do not know each other",
        find: |source| {
            let Some(home) = SIBLINGS.iter().find(|sibling| source.path.starts_with(&format!("{sibling}/"))) else {
                return Vec::new();
            };
            let others = SIBLINGS.iter().filter(|sibling| *sibling != home);
            let crates: Vec<String> = others.map(|sibling| format!("reveille-{sibling}")).collect();
            if source.path.ends_with("Cargo.toml") {
                return dependencies(source, &crates);
            }
            let names: Vec<String> = crates.iter().map(|name| name.replace('-', "_")).collect();
            paths(source, &names)
        },
        flags: &[
            ("api/Cargo.toml", "[dependencies]\nreveille-worker.workspace = true"),
            ("worker/src/lib.rs", "use reveille_monitor::Settings;"),
            ("monitor/tests/it/main.rs", "reveille_api::router()"),
        ],
        passes: &[
            ("api/Cargo.toml", "[package]\nname = \"reveille-api\"\n[dependencies]\nreveille-shared.workspace = true"),
            ("api/tests/it/main.rs", "reveille_api::router()"),
            ("src/roles.rs", "use reveille_api as api; use reveille_worker as worker;"),
        ],
    },
    Rule {
        name: "the test kit knows no crate of the product",
        find: |source| match source.path.as_str() {
            "tests/kit/Cargo.toml" => {
                let mut crates = SIBLINGS.map(|sibling| format!("reveille-{sibling}")).to_vec();
                crates.extend(["reveille-shared".to_owned(), "reveille".to_owned()]);
                dependencies(source, &crates)
            }
            _ => Vec::new(),
        },
        flags: &[("tests/kit/Cargo.toml", "[dependencies]\nreveille-shared.workspace = true")],
        passes: &[("tests/kit/Cargo.toml", "[package]\nname = \"reveille-testkit\"\n[dependencies]\nhyper = \"1\"")],
    },
    Rule {
        name: "clocks are read and slept on in clock.rs",
        find: |source| {
            if !source.is_product() || source.path == CLOCK {
                return Vec::new();
            }
            let names =
                ["Utc::now", "Local::now", "SystemTime::now", "Instant::now", "time::sleep", "time::sleep_until"];
            let others = ["time::interval", "time::interval_at", "thread::sleep"];
            [paths(source, &names), paths(source, &others)].concat()
        },
        flags: &[
            ("api/src/lib.rs", "let now = chrono::Utc::now();"),
            ("worker/src/wait.rs", "use tokio::time::{Duration, sleep};"),
            ("src/main.rs", "let began = Instant::now();"),
        ],
        passes: &[
            (CLOCK, "tokio::time::sleep_until(x)"),
            ("worker/src/wait.rs", "use tokio::time::timeout; clock.sleep_until(x).await; // not Utc::now()"),
            ("worker/tests/it/main.rs", "Instant::now()"),
        ],
    },
    Rule {
        name: "tasks are spawned in lifecycle.rs",
        find: |source| {
            if !source.is_product() || [LIFECYCLE, LOG].contains(&source.path.as_str()) {
                return Vec::new();
            }
            paths(source, &["tokio::spawn", "task::spawn", "thread::spawn", "thread::Builder"])
        },
        flags: &[
            ("worker/src/lib.rs", "tokio::spawn(async {});"),
            ("worker/src/lib.rs", "use tokio::{spawn, time};"),
            ("shared/src/bus/redis.rs", "std::thread::spawn(|| {});"),
        ],
        passes: &[(LIFECYCLE, "tokio::spawn(task)"), ("worker/src/lib.rs", "context.lifecycle.spawn(\"x\", task)")],
    },
    Rule {
        name: "the environment is read in config/",
        find: |source| {
            if !source.is_product() || source.path.starts_with(CONFIG) {
                return Vec::new();
            }
            paths(source, &["env::var", "env::var_os", "env::vars", "env::vars_os", "env::set_var"])
        },
        flags: &[("src/main.rs", "let url = std::env::var(\"X\");"), ("src/main.rs", "use std::env::var_os;")],
        passes: &[
            ("src/config/mod.rs", "std::env::var(\"X\")"),
            ("src/main.rs", "let version = env!(\"CARGO_PKG_VERSION\");"),
        ],
    },
    Rule {
        name: "the disallowed methods of clippy.toml are allowed in their own modules only",
        find: |source| {
            let is_home = source.path == CLOCK || source.path == LIFECYCLE || source.path.starts_with(CONFIG);
            if !source.is_product() || is_home {
                return Vec::new();
            }
            texts(&source.bare, &["clippy::disallowed_methods"])
        },
        flags: &[("worker/src/lib.rs", "#[expect(clippy::disallowed_methods, reason = \"in a hurry\")]\nfn f() {}")],
        passes: &[(CLOCK, "#![expect(clippy::disallowed_methods, reason = \"home\")]")],
    },
    Rule {
        name: "which database it is only the store knows",
        find: |source| {
            if !source.is_product() || source.path.starts_with(STORE) {
                return Vec::new();
            }
            lines(&source.code, |line| {
                let line = line.to_lowercase();
                let names_one = line.contains("sqlite") || line.contains("postgres");
                names_one && (["if ", "match ", "matches!(", "=>"].iter().any(|branch| line.contains(branch)))
            })
        },
        flags: &[
            ("worker/src/claim.rs", "if context.store.is_sqlite() {"),
            ("src/roles.rs", "let store = if url.starts_with(\"sqlite:\") {"),
            ("api/src/lib.rs", "match backend {\n    Backend::Postgres => 1,\n}"),
        ],
        passes: &[
            ("shared/src/store/open.rs", "if url.starts_with(\"sqlite:\") {"),
            ("src/config.rs", "const DEFAULT: &str = \"sqlite:reveille.sqlite\"; // if sqlite is meant"),
        ],
    },
    Rule {
        name: "nothing is muted, skipped or left undone",
        find: |source| {
            let marks = ["#[allow", "#![allow", "#[ignore", "todo!(", "unimplemented!("];
            if source.is_rust() { texts(&source.bare, &marks) } else { Vec::new() }
        },
        flags: &[
            ("src/main.rs", "#[allow(dead_code)]\nfn f() {}"),
            ("src/main.rs", "#![allow(unused)]"),
            ("tests/it/main.rs", "#[test]\n#[ignore = \"slow\"]\nfn t() {}"),
            ("src/main.rs", "fn f() { todo!() }"),
            ("src/main.rs", "fn f() { unimplemented!(\"later\") }"),
        ],
        passes: &[(
            "src/main.rs",
            "#[expect(dead_code, reason = \"x\")] // not #[allow]\nconst S: &str = \"todo!()\";",
        )],
    },
    Rule {
        name: "a module begins with what it owns",
        find: |source| {
            let is_silent = source.is_rust() && !source.text.starts_with("//!");
            is_silent.then(|| (1, "no //! on the first line".to_owned())).into_iter().collect()
        },
        flags: &[("src/main.rs", "fn main() {}"), ("src/x.rs", ""), ("src/x.rs", "// a comment\n//! too late")],
        passes: &[("src/main.rs", "//! The program.\nfn main() {}"), ("ci/x.sh", "# no Rust")],
    },
    Rule {
        name: "a file can be read in one sitting",
        find: |source| {
            let count = source.text.lines().count();
            let is_long = source.is_rust() && count > MAX_LINES;
            is_long.then(|| (count, format!("more than {MAX_LINES} lines"))).into_iter().collect()
        },
        flags: &[("src/long.rs", LONG)],
        passes: &[("src/main.rs", "//! Short.\n"), ("CHANGELOG.md", LONG)],
    },
    Rule {
        name: "numbers are logged as numbers: 128 bits would be text in a JSON line",
        find: |source| {
            let is_field = |line: &str| line.contains("_ms = ") && !line.trim_start().starts_with("let ");
            let logs = source.is_rust() && source.path != "tests/it/tidy/rules.rs";
            lines(&source.text, |line| logs && is_field(line) && line.contains(".as_millis()"))
        },
        flags: &[("src/main.rs", "tracing::info!(lag_ms = lag.as_millis(), \"late\");")],
        passes: &[("src/main.rs", "let lag_ms = lag.as_millis();\ntracing::info!(lag_ms = whole_ms(lag), \"late\");")],
    },
    Rule {
        name: "no path of somebody's machine",
        // Spelled in two halves, so that this file keeps the rule itself.
        find: |source| {
            let roots = [concat!("/wo", "rk/"), concat!("/fa", "rm/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
            lines(&source.text, |line| roots.iter().any(|root| begins_a_path(line, root)))
        },
        flags: &[
            ("README.md", concat!("see /wo", "rk/notes.md")),
            ("src/main.rs", concat!("const P: &str = \"/ro", "ot/.cargo\";")),
        ],
        passes: &[
            ("README.md", concat!("https://example.com/wo", "rk/x and ./src/wo", "rk/y and $HO", "ME/x")),
            ("src/main.rs", concat!("//! The network/wo", "rk/rest of it.")),
        ],
    },
];

const LONG: &str = {
    const BYTES: [u8; MAX_LINES + 1] = [b'\n'; MAX_LINES + 1];
    match std::str::from_utf8(&BYTES) {
        Ok(text) => text,
        Err(_) => "",
    }
};

/// Paths that contain one of `unwanted` as whole segments in a row.
fn paths(source: &Source, unwanted: &[impl AsRef<str>]) -> Findings {
    let contains =
        |path: &str| unwanted.iter().any(|name| format!("::{path}::").contains(&format!("::{}::", name.as_ref())));
    source.paths().into_iter().filter(|(_, path)| contains(path)).collect()
}

/// Lines that contain one of `unwanted`.
fn texts(text: &str, unwanted: &[&str]) -> Findings {
    lines(text, |line| unwanted.iter().any(|unwanted| line.contains(unwanted)))
}

fn lines(text: &str, is_unwanted: impl Fn(&str) -> bool) -> Findings {
    let numbered = text.lines().enumerate();
    numbered.filter(|(_, line)| is_unwanted(line)).map(|(index, line)| (index + 1, line.trim().to_owned())).collect()
}

/// Dependencies of any kind, renamed ones too, in a manifest.
fn dependencies(source: &Source, unwanted: &[impl AsRef<str>]) -> Findings {
    let manifest: toml::Table = source.text.parse().expect("a readable manifest");
    let mut names = Vec::new();
    collect_dependencies(&manifest, &mut names);
    let is_unwanted = |name: &String| unwanted.iter().any(|unwanted| unwanted.as_ref() == name);
    names.into_iter().filter(is_unwanted).map(|name| (1, format!("depends on {name}"))).collect()
}

fn collect_dependencies(table: &toml::Table, names: &mut Vec<String>) {
    for (key, value) in table {
        let Some(inner) = value.as_table() else { continue };
        if !key.ends_with("dependencies") {
            collect_dependencies(inner, names);
            continue;
        }
        for (name, details) in inner {
            let package = details.get("package").and_then(toml::Value::as_str);
            names.push(package.unwrap_or(name).to_owned());
        }
    }
}

/// Whether `root` stands in `line` as the beginning of a path, not inside one.
fn begins_a_path(line: &str, root: &str) -> bool {
    line.match_indices(root).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|letter| letter.is_alphanumeric() || "._-~}".contains(letter))
    })
}
