//! Refusals: a mutation answers what its caller can mend as `userErrors`, everything else is an error of the
//! request with the problem's code in its extensions.
//!
//! Invariant: no refusal is silent. Whoever does not select `userErrors`, as clients of the published schema
//! do not, gets the same as an error of the request.

use async_graphql::{Context, Error, ErrorExtensions, ServerError, SimpleObject};

use crate::error::Problem;

/// The code of a request that is not GraphQL, or not of this schema.
pub(super) const INVALID: &str = "invalid_graphql";
/// The code of a request that asks for more than one request may.
pub(super) const LIMIT: &str = "limit_exceeded";

/// What a caller can mend.
#[derive(Clone, Debug, SimpleObject)]
pub(super) struct UserError {
    /// JSON pointer (RFC 6901) into the registration document, the name of an argument, or empty.
    pointer: String,
    /// Stable word for programs, the same as REST's.
    code: String,
    /// Sentence for people.
    message: String,
}

impl UserError {
    fn all_of(problem: Problem) -> Vec<Self> {
        if problem.errors.is_empty() {
            return vec![Self { pointer: String::new(), code: problem.code.to_owned(), message: problem.detail }];
        }
        let fields = problem.errors.into_iter();
        fields
            .map(|field| Self { pointer: field.pointer, code: field.code.to_owned(), message: field.detail })
            .collect()
    }
}

/// What a mutation came to, or what its caller can mend.
///
/// # Errors
/// What he cannot, or did not ask to be told.
pub(super) fn attempted<T>(ctx: &Context<'_>, outcome: Result<T, Problem>) -> Result<Result<T, Vec<UserError>>, Error> {
    match outcome {
        Ok(done) => Ok(Ok(done)),
        Err(problem) if problem.status < 500 && ctx.look_ahead().field("userErrors").exists() => {
            Ok(Err(UserError::all_of(problem)))
        }
        Err(problem) => Err(failure(&problem)),
    }
}

/// A problem as an error of the request.
pub(super) fn failure(problem: &Problem) -> Error {
    Error::new(problem.detail.clone()).extend_with(|_, extensions| {
        extensions.set("code", problem.code);
        extensions.set("status", problem.status);
        if let Ok(errors) = async_graphql::to_value(&problem.errors)
            && !problem.errors.is_empty()
        {
            extensions.set("errors", errors);
        }
    })
}

/// `None` for a problem that says there is no such thing.
///
/// # Errors
/// Every other problem.
pub(super) fn found<T>(outcome: Result<T, Problem>) -> Result<Option<T>, Error> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(problem) if problem.status == 404 => Ok(None),
        Err(problem) => Err(failure(&problem)),
    }
}

/// An error that has no code yet gets this one.
pub(super) fn with_code(mut error: ServerError, code: &'static str) -> ServerError {
    let extensions = error.extensions.get_or_insert_default();
    if extensions.get("code").is_none() {
        extensions.set("code", code);
    }
    error
}
