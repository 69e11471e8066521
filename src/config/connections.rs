//! The file of named connections: a table per name, with where it goes and the credentials that no schedule holds.

use std::path::Path;

use reveille_worker::{Connections, NamedConnection};

/// Longest name, as in documents.
const MAX_NAME: usize = 64;

/// A connection by its name, or why it cannot be served.
pub(crate) type Judged = (String, Result<NamedConnection, String>);

/// Reads the file; without one there are none.
///
/// # Errors
/// One sentence that names file, connection and key, and no value.
pub(crate) fn read(path: Option<&Path>) -> Result<Connections, String> {
    let judged = path.map_or_else(|| Ok(Vec::new()), judged)?;
    judged.into_iter().map(|(name, connection)| Ok((name, connection?))).collect()
}

/// All connections of the file by name, also those that cannot be served, with the reason.
///
/// # Errors
/// One sentence when there is nothing to judge.
pub(crate) fn judged(path: &Path) -> Result<Vec<Judged>, String> {
    let file = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {file}: {error}"))?;
    let tables: toml::Table = text.parse().map_err(|error: toml::de::Error| format!("{file}: {}", error.message()))?;
    let judged = tables.into_iter().map(|(name, table)| {
        let connection = connection_of(&name, table).map_err(|detail| format!("{file}: connection `{name}`: {detail}"));
        (name, connection)
    });
    Ok(judged.collect())
}

fn connection_of(name: &str, table: toml::Value) -> Result<NamedConnection, String> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(format!("a name has 1 to {MAX_NAME} bytes"));
    }
    // The error's own text quotes the line, and the line may hold a password.
    let connection: NamedConnection = table.try_into().map_err(|error: toml::de::Error| error.message().to_owned())?;
    connection.check().map_err(|(key, detail)| format!("`{key}`: {detail}"))?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Connections, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(Some(file.path()))
    }

    #[test]
    fn connections_are_read_by_name() {
        let read = read_text(
            "[orders]\ntype = \"kafka\"\nhost = \"a:1,b\"\nsasl_mechanism = \"PLAIN\"\nusername = \"u\"\npassword = \"p\"\n\n\
             [cache]\ntype = \"redis\"\nhost = \"redis://h\"\n\n\
             [hook]\ntype = \"rest\"\nhost = \"https://h/x\"\nheaders = {Authorization = \"Bearer x\"}\n",
        )
        .unwrap();
        assert_eq!(read.keys().collect::<Vec<_>>(), ["cache", "hook", "orders"]);
        assert_eq!(read["orders"].password.as_deref(), Some("p"));
        assert_eq!(read["hook"].headers["Authorization"], "Bearer x");
        assert!(super::read(None).unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_and_no_value_is_quoted() {
        for (text, named) in [
            ("orders = 1", "`orders`"),
            ("[orders]\nhost = \"secret\"", "`type`"),
            ("[orders]\ntype = \"kafka\"\nhost = \"h\"\npass_word = \"secret\"", "`pass_word`"),
            ("[orders]\ntype = \"kafka\"\nhost = \"h\"\nsasl_mechanism = \"secret\"", "`sasl_mechanism`"),
            ("[cache]\ntype = \"redis\"\nhost = \"redis://:secret@\"", "`host`"),
            ("[hook]\ntype = \"rest\"\nhost = \"ftp://secret\"", "`host`"),
            ("[orders]\ntype = \"kafka\"\nhost = \"secret:x\"", "`host`"),
            // What would be ignored is not meant to be: it may be what keeps a password from the wire.
            ("[orders]\ntype = \"kafka\"\nhost = \"h\"\nusername = \"secret\"", "`sasl_mechanism`"),
            (
                "[orders]\ntype = \"kafka\"\nhost = \"h\"\nsasl_mechanism = \"PLAIN\"\nusername = \"secret\"",
                "`password`",
            ),
            ("[orders]\ntype = \"kafka\"\nhost = \"h\"\nca_file = \"secret\"", "`ca_file`"),
            ("[cache]\ntype = \"redis\"\nhost = \"redis://secret\"\ntls = true", "`tls`"),
            ("[cache]\ntype = \"redis\"\nhost = \"redis://secret\"\nca_file = \"secret\"", "`ca_file`"),
            ("[cache]\ntype = \"redis\"\nhost = \"rediss://secret\"\nheaders = {a = \"secret\"}", "`headers`"),
            ("[hook]\ntype = \"rest\"\nhost = \"https://secret\"\npassword = \"secret\"", "`password`"),
        ] {
            let refusal = read_text(text).unwrap_err();
            assert!(refusal.contains(named), "{refusal}");
            assert!(!refusal.contains("secret"), "{refusal}");
        }
        assert!(read(Some(Path::new("/nowhere/at/all"))).unwrap_err().contains("/nowhere/at/all"));
    }
}
