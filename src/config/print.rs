//! `reveille config`: the settings in force, and the table of all of them for the documentation. Both are read
//! from the parser, so neither can say something else than it does.

use std::fmt::Write as _;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory};

use super::{Cli, Config, redacted};

/// The settings in force as TOML, or the table of all settings in Markdown.
pub(crate) fn print(config: &Config, markdown: bool) -> String {
    // In the order of the table: putting a file's value in moves an argument to the end.
    let table = Cli::command();
    let settings = table.get_arguments().filter(|arg| is_setting(arg));
    let mut text = String::new();
    if markdown {
        text.push_str("| flag | environment | default | meaning |\n|---|---|---|---|\n");
    }
    for arg in settings {
        let row = if markdown { table_row(arg) } else { in_force(arg, &config.matches, &config.parser) };
        text.push_str(&row);
    }
    text
}

fn is_setting(arg: &Arg) -> bool {
    !arg.is_hide_set() && arg.get_env().is_some()
}

fn table_row(arg: &Arg) -> String {
    let value = value_name(arg).map(|name| format!(" {name}")).unwrap_or_default();
    // The help of a flag with a default per role names it itself.
    let help = help(arg);
    let (help, own_default) = match help.split_once(" [default: ") {
        Some((help, default)) => (help.to_owned(), Some(default.trim_end_matches(']').to_owned())),
        None => (help, None),
    };
    let default = own_default.or_else(|| default(arg).map(|default| format!("`{default}`"))).unwrap_or_default();
    format!("| `--{}{value}` | `{}` | {} | {} |\n", flag(arg), env(arg), cell(&default), cell(&help))
}

fn in_force(arg: &Arg, matches: &ArgMatches, parser: &Command) -> String {
    let id = arg.get_id().as_str();
    let values: Vec<String> = matches
        .get_raw(id)
        .map(|values| values.map(|value| shown(id, &value.to_string_lossy())).collect())
        .unwrap_or_default();
    let source = match matches.value_source(id) {
        Some(ValueSource::CommandLine) => "from the command line".to_owned(),
        Some(ValueSource::EnvVariable) => format!("from {}", env(arg)),
        Some(_) if is_from_file(arg, parser) => "from the file".to_owned(),
        _ => "default".to_owned(),
    };
    let mut text = format!("# {}\n", help(arg));
    let value = match values.as_slice() {
        [] => {
            let _ = writeln!(text, "# {} = not set", flag(arg));
            return text + "\n";
        }
        [single] if single == "true" || single == "false" || single.parse::<u32>().is_ok() => single.clone(),
        several => toml::Value::String(several.join(",")).to_string(),
    };
    let _ = writeln!(text, "{} = {value} # {source}", flag(arg));
    text + "\n"
}

/// A default that the program itself does not have came from the file.
fn is_from_file(arg: &Arg, parser: &Command) -> bool {
    let parsed = parser.get_arguments().find(|parsed| parsed.get_id() == arg.get_id());
    parsed.and_then(default) != default(arg)
}

fn shown(id: &str, value: &str) -> String {
    match id {
        "api_token" | "otlp_headers" | "secret_key" => "***".to_owned(),
        "database_url" | "redis_url" | "egress_proxy" => redacted(value),
        _ => value.to_owned(),
    }
}

fn flag(arg: &Arg) -> String {
    arg.get_long().unwrap_or_default().to_owned()
}

fn env(arg: &Arg) -> String {
    arg.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn help(arg: &Arg) -> String {
    arg.get_help().map(ToString::to_string).unwrap_or_default()
}

fn value_name(arg: &Arg) -> Option<String> {
    let takes_value = arg.get_action().takes_values();
    takes_value.then(|| arg.get_value_names().map(|names| names.join(" "))).flatten()
}

fn default(arg: &Arg) -> Option<String> {
    let values: Vec<String> =
        arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    (!values.is_empty()).then(|| values.join(","))
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
