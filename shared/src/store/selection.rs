//! Which schedules a list or a deletion means, as the condition of a statement.
//!
//! Put together from what is asked: with each field written as «any or this», no index could be used. Texts come from
//! fixed lists; everything a caller wrote is bound.
//!
//! One field leads, that which usually tells schedules apart best, and its index is read in id order; the others are
//! written so that the planner cannot see an index in them. Without statistics it takes all fields for equally rare,
//! and would as soon read a whole application as look up a key.

use super::rows::state_codes;
use super::sql::standing;
use super::{Page, ScheduleFilter, Selection};
use crate::model::schedule::ClientKey;

/// A condition on the schedule `s`, beginning with AND.
pub(super) struct Condition {
    pub(super) text: String,
    /// Its parameters, in order.
    pub(super) values: Vec<String>,
}

/// Fields of the client key that are not empty must be equal; the parameters are numbered from `first`.
pub(super) fn client_condition(client: &ClientKey, first: usize) -> Condition {
    let fields = [
        ("s.client_key", &client.key),
        ("s.client_group", &client.group),
        ("s.operation", &client.operation),
        ("s.client_type", &client.kind),
        ("s.application", &client.application),
    ];
    let mut condition = Condition { text: String::new(), values: Vec::new() };
    for (column, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
        let number = first + condition.values.len();
        let text = match condition.values.is_empty() {
            true => format!(" AND {column} = ${number}"),
            false => format!(" AND {column} || '' = ${number}"),
        };
        condition.text.push_str(&text);
        condition.values.push(value.clone());
    }
    condition
}

/// What a deletion means; its parameters are numbered from `first`. An id is not among the values.
pub(super) fn deletion_condition(selection: &Selection, first: usize) -> Condition {
    match selection {
        Selection::Id(_) => Condition { text: format!(" AND s.id = ${first}"), values: Vec::new() },
        Selection::Client(client) => client_condition(client, first),
    }
}

/// A page of what a filter shows. The id after which it starts is the last parameter.
pub(super) fn list_condition(filter: &ScheduleFilter, page: &Page) -> Condition {
    let mut condition = client_condition(&filter.client, 1);
    if page.after.is_some() {
        condition.text.push_str(&format!(" AND s.id > ${}", condition.values.len() + 1));
    }
    let states: Vec<String> = state_codes(&filter.states).iter().map(i16::to_string).collect();
    condition.text.push_str(&format!(" AND {} IN ({})", standing!(), states.join(", ")));
    condition
}
