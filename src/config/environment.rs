//! Secrets in the environment, whose names are not known beforehand. Read once.

use std::collections::BTreeMap;

/// Variables with this prefix, by what comes after it.
pub(crate) fn variables(prefix: &str) -> BTreeMap<String, String> {
    let texts =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    texts.filter_map(|(name, value)| Some((name.strip_prefix(prefix)?.to_owned(), value))).collect()
}
