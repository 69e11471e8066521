//! What one request may ask for. Everything beyond is refused before anything is done.
//!
//! Size and time are bounded where REST's are: by the body's limit and the shelter.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::async_trait::async_trait;
use async_graphql::extensions::{
    Extension, ExtensionContext, ExtensionFactory, NextExecute, NextParseQuery, NextValidation,
};
use async_graphql::parser::types::{ExecutableDocument, FragmentDefinition, Selection, SelectionSet};
use async_graphql::{Error, Name, Positioned, Response, ServerError, ServerResult, ValidationResult, Variables};

use super::errors::{INVALID, LIMIT, failure, with_code};
use crate::error::Problem;
use crate::surface::query::PAGE_MAX;

/// Deepest nesting of fields; the introspection query of common tools needs 14.
pub(super) const DEPTH_MAX: usize = 16;
/// Most fields, those of lists counted once per item they may have; what asks the database counts 20 more.
pub(super) const COMPLEXITY_MAX: usize = 5_000;
/// Most fields of the root: each is an operation of its own.
const ROOT_FIELDS_MAX: usize = 10;
/// Most aliases of a request.
const ALIASES_MAX: usize = 30;
/// Items of a page when nobody says.
const PAGE_DEFAULT: i32 = 50;

/// How many items a page has.
///
/// # Errors
/// When the argument is out of range.
pub(super) fn page_size(first: Option<i32>) -> Result<i32, Error> {
    let size = first.unwrap_or(PAGE_DEFAULT);
    if (1..=PAGE_MAX).contains(&i64::from(size)) {
        return Ok(size);
    }
    Err(failure(&Problem::bad_query("first", format!("first is a number from 1 to {PAGE_MAX}"))))
}

/// Counts root fields and aliases, ends what takes too long (over a WebSocket too, where no shelter stands),
/// and gives every refusal of a request its code.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// How long one execution may take.
    pub(super) time: Duration,
}

impl ExtensionFactory for Limits {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(*self)
    }
}

#[async_trait]
impl Extension for Limits {
    async fn parse_query(
        &self,
        ctx: &ExtensionContext<'_>,
        query: &str,
        variables: &Variables,
        next: NextParseQuery<'_>,
    ) -> ServerResult<ExecutableDocument> {
        let parsed = next.run(ctx, query, variables).await;
        let document = parsed.map_err(|error| with_code(error, INVALID))?;
        check(&document).map_err(|sentence| with_code(ServerError::new(sentence, None), LIMIT))?;
        Ok(document)
    }

    async fn execute(&self, ctx: &ExtensionContext<'_>, operation: Option<&str>, next: NextExecute<'_>) -> Response {
        match tokio::time::timeout(self.time, next.run(ctx, operation)).await {
            Ok(mut response) => {
                let errors = std::mem::take(&mut response.errors).into_iter();
                // Those of resolvers have one; the rest is what the crate finds wrong with the request.
                response.errors = errors.map(|error| with_code(error, INVALID)).collect();
                response
            }
            Err(_elapsed) => {
                let sentence = "the request was given up; whether it took effect is unknown";
                Response::from_errors(vec![with_code(ServerError::new(sentence, None), "timeout")])
            }
        }
    }

    async fn validation(
        &self,
        ctx: &ExtensionContext<'_>,
        next: NextValidation<'_>,
    ) -> Result<ValidationResult, Vec<ServerError>> {
        let validated = next.run(ctx).await;
        validated.map_err(|errors| {
            let code = |error: &ServerError| if is_limit(&error.message) { LIMIT } else { INVALID };
            errors.into_iter().map(|error| with_code(error.clone(), code(&error))).collect()
        })
    }
}

/// The crate tells its own limits from other errors by their sentences alone.
fn is_limit(message: &str) -> bool {
    matches!(message, "Query is nested too deep." | "Query is too complex.")
}

fn check(document: &ExecutableDocument) -> Result<(), String> {
    let mut aliases = 0;
    for (_, operation) in document.operations.iter() {
        aliases += count_aliases(&operation.node.selection_set.node);
        let mut budget = ROOT_FIELDS_MAX;
        if !fits(&operation.node.selection_set.node, &document.fragments, &mut budget, 0) {
            return Err(format!("a request has {ROOT_FIELDS_MAX} fields at its root at most"));
        }
    }
    for fragment in document.fragments.values() {
        aliases += count_aliases(&fragment.node.selection_set.node);
    }
    if aliases > ALIASES_MAX {
        return Err(format!("a request has {ALIASES_MAX} aliases at most"));
    }
    Ok(())
}

fn count_aliases(selections: &SelectionSet) -> usize {
    let each = selections.items.iter().map(|selection| match &selection.node {
        Selection::Field(field) => {
            usize::from(field.node.alias.is_some()) + count_aliases(&field.node.selection_set.node)
        }
        Selection::InlineFragment(inline) => count_aliases(&inline.node.selection_set.node),
        Selection::FragmentSpread(_) => 0, // counted with the fragments
    });
    each.sum()
}

/// Whether the fields of a root fit into what is left of the budget. Fragments that name each other are
/// refused later; here they only end at the depth.
fn fits(
    root: &SelectionSet,
    fragments: &HashMap<Name, Positioned<FragmentDefinition>>,
    budget: &mut usize,
    depth: usize,
) -> bool {
    root.items.iter().all(|selection| {
        let inner = match &selection.node {
            Selection::Field(_) => {
                let fits = *budget > 0;
                *budget = budget.saturating_sub(1);
                return fits;
            }
            Selection::InlineFragment(inline) => Some(&inline.node.selection_set.node),
            Selection::FragmentSpread(spread) => {
                fragments.get(&spread.node.fragment_name.node).map(|fragment| &fragment.node.selection_set.node)
            }
        };
        inner.is_none_or(|inner| depth < DEPTH_MAX && fits(inner, fragments, budget, depth + 1))
    })
}
