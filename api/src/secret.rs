//! What a mask means when it comes back, and the sealing of what is about to be stored.
//!
//! Invariant: a secret leaves the API by no answer, no log line and no error, and it goes to the server it was
//! registered for and to no other: whoever may change a schedule may not read its secrets by sending them elsewhere.

use std::collections::BTreeMap;

use reveille_shared::model::document::FieldError;
use reveille_shared::model::schedule::Definition;
use reveille_shared::model::secret::{SECRET_MASK, Slot, is_same_server, rewrite};
use reveille_shared::runtime::seal::{NoKey, Sealer};

use crate::error::Problem;

/// Puts the secrets of the stored payload back where the caller sent their mask.
///
/// # Errors
/// 422 that names the secrets of which nothing is stored, or which are to go to another server now.
pub(crate) fn restore(
    sealer: &Sealer,
    definition: &mut Definition,
    stored: Option<&Definition>,
) -> Result<(), Problem> {
    let mut known = BTreeMap::new();
    if let Some(stored) = stored {
        rewrite(&mut stored.clone(), sealer.headers(), |slot| {
            known.insert(slot.place.clone(), sealer.open(&stored.client, slot));
            None
        });
    }
    let moved = stored.is_some_and(|stored| !is_same_server(stored, definition));
    let mut errors = Vec::new();
    rewrite(definition, sealer.headers(), |slot| {
        if slot.value != SECRET_MASK {
            return None;
        }
        let (code, detail) = match known.remove(&slot.place) {
            None => ("nothing_stored", format!("`{SECRET_MASK}` keeps the stored value, and none is stored")),
            Some(_) if moved => {
                ("target_changed", "the stored value was for another server: send the secret again".to_owned())
            }
            Some(Ok(value)) => return Some(value),
            Some(Err(unopened)) => {
                tracing::warn!(error = %unopened, "a stored secret cannot be opened, a caller has to send it again");
                ("secret_unreadable", "the stored value cannot be opened any more: send the secret again".to_owned())
            }
        };
        errors.push(field_error(slot, code, detail));
        None
    });
    if errors.is_empty() { Ok(()) } else { Err(Problem::invalid(errors)) }
}

fn field_error(slot: &Slot<'_>, code: &'static str, detail: String) -> FieldError {
    FieldError { pointer: slot.pointer.clone(), code, detail }
}

/// The refusal of a document whose secrets could only be stored in the clear.
pub(crate) fn no_key(refusal: NoKey) -> Problem {
    let detail = "this server has no secret key, and stores no secret in the clear; use a reference, secret://name";
    let error = |pointer| FieldError { pointer, code: "no_secret_key", detail: detail.to_owned() };
    Problem { code: "no_secret_key", ..Problem::invalid(refusal.pointers.into_iter().map(error).collect()) }
}
