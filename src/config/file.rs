//! The TOML file: its keys are the flags' names, its values become the flags' defaults.

use std::path::Path;
use std::str::FromStr;

/// Puts a file's values in as defaults.
pub(super) fn as_defaults(parser: clap::Command, path: &Path) -> Result<clap::Command, String> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {name}: {error}"))?;
    let table: toml::Table = text.parse().map_err(|error| format!("{name}: {error}"))?;
    let mut parser = parser;
    for (key, value) in table {
        let id = key.replace('-', "_");
        let flag = id.replace('_', "-");
        let known = parser.get_arguments().any(|arg| arg.get_id() == id.as_str() && id != "config");
        if !known {
            return Err(format!("{name}: unknown key `{key}`"));
        }
        let text =
            file_value(&value).ok_or_else(|| format!("{name}: `{key}` is neither text, number, flag nor list"))?;
        check_value(&parser, &id, &flag, &text).map_err(|error| format!("{name}: {error}"))?;
        parser = parser.mut_arg(id, |arg| arg.default_value(text));
    }
    Ok(parser)
}

/// A bad value must be refused as such: clap takes a bad default for a mistake of the program.
fn check_value(parser: &clap::Command, id: &str, flag: &str, text: &str) -> Result<(), String> {
    let is_switch = parser.get_arguments().any(|arg| arg.get_id() == id && !arg.get_action().takes_values());
    if is_switch {
        return bool::from_str(text).map(|_| ()).map_err(|_| format!("`{flag}` is true or false, not `{text}`"));
    }
    let attempt = parser.clone().try_get_matches_from(["reveille".to_owned(), format!("--{flag}={text}")]);
    match attempt {
        Ok(_) => Ok(()),
        Err(error) => {
            let sentence = error.to_string();
            let first = sentence.lines().next().unwrap_or_default();
            Err(first.trim_start_matches("error: ").to_owned())
        }
    }
}

fn file_value(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Array(items) => Some(items.iter().map(file_value).collect::<Option<Vec<_>>>()?.join(",")),
        _ => None,
    }
}
