//! Headers that hold credentials: what is shown of them, and what their mask means when it comes back.
//!
//! Invariant: the value of a secret header leaves the API by no answer, no log line and no error.

use reveille_shared::model::document::{FieldError, SECRET_MASK, is_secret_header};
use reveille_shared::model::schedule::Definition;

use crate::error::Problem;

/// Hides the secrets of a definition that is about to be shown.
pub(crate) fn mask(definition: &mut Definition) {
    for (name, value) in &mut definition.task.connection.headers {
        if is_secret_header(name) {
            SECRET_MASK.clone_into(value);
        }
    }
}

/// Whether a caller sent back what was hidden from him.
pub(crate) fn is_masked(definition: &Definition) -> bool {
    masked(definition).next().is_some()
}

/// Puts the secrets of the stored payload back where the caller sent their mask.
///
/// # Errors
/// 422 that names the headers of which nothing is stored.
pub(crate) fn restore(definition: &mut Definition, stored: Option<&str>) -> Result<(), Problem> {
    let stored: Option<Definition> = stored.and_then(|payload| serde_json::from_str(payload).ok());
    let names: Vec<String> = masked(definition).cloned().collect();
    let mut errors = Vec::new();
    for name in names {
        let mut known = stored.iter().flat_map(|stored| &stored.task.connection.headers);
        match known.find(|(stored_name, _)| stored_name.eq_ignore_ascii_case(&name)) {
            Some((_, value)) => {
                definition.task.connection.headers.insert(name, value.clone());
            }
            None => errors.push(FieldError {
                pointer: format!("/task/connection/headers/{name}"),
                code: "nothing_stored",
                detail: format!("`{SECRET_MASK}` keeps the stored value, and none is stored"),
            }),
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Problem::invalid(errors)) }
}

fn masked(definition: &Definition) -> impl Iterator<Item = &String> {
    let headers = definition.task.connection.headers.iter();
    headers.filter(|(name, value)| is_secret_header(name) && *value == SECRET_MASK).map(|(name, _)| name)
}
