//! A cursor over the members of a JSON object that reads typed fields and notes what is wrong with them.
//!
//! Members stay text until they are read, so `data` is what was registered, numbers are as exact as they
//! were written, and a member written twice has one value. A read answers `None` for a field that is
//! absent, null or refused; the caller goes on, so that one pass notes everything.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::scalar::{Refusal, Scalar};
use super::{DocumentError, FieldError};

/// Unknown fields named per object; a body can hold some ten thousand, and none of them is worth that answer.
const MAX_NAMED_UNKNOWN: usize = 32;

/// What is wrong with a document and what nobody knows, in the order it was read.
#[derive(Default)]
pub(super) struct Findings {
    errors: RefCell<Vec<FieldError>>,
    unknown: RefCell<Vec<UnknownField>>,
}

impl Findings {
    pub(super) fn into_parts(self) -> (Vec<FieldError>, Vec<UnknownField>) {
        (self.errors.into_inner(), self.unknown.into_inner())
    }
}

/// Pointer to a field nobody knows.
pub(super) struct UnknownField(String);

impl UnknownField {
    pub(super) fn into_warning(self) -> String {
        format!("`{}` is not a known field and was left out", self.0)
    }

    pub(super) fn into_error(self) -> FieldError {
        FieldError { detail: "is not a known field".to_owned(), code: "unknown_field", pointer: self.0 }
    }
}

/// The members of one object that have not been read yet.
pub(super) struct Fields<'a> {
    pointer: String,
    members: BTreeMap<String, &'a RawValue>,
    findings: &'a Findings,
}

impl<'a> Fields<'a> {
    /// The members of a whole document; `None` when it is JSON but not an object, which is noted.
    pub(super) fn of_document(body: &'a [u8], findings: &'a Findings) -> Result<Option<Self>, DocumentError> {
        let text = std::str::from_utf8(body).map_err(|error| DocumentError::Syntax { detail: error.to_string() })?;
        let document: &RawValue =
            serde_json::from_str(text).map_err(|error| DocumentError::Syntax { detail: error.to_string() })?;
        match members(document) {
            Ok(members) => Ok(Some(Self { pointer: String::new(), members, findings })),
            Err(refusal) => {
                findings.errors.borrow_mut().push(refusal.at(String::new()));
                Ok(None)
            }
        }
    }

    /// Reads a field that may be absent or null.
    pub(super) fn optional<T>(&mut self, name: &str, read: impl FnOnce(Scalar<'a>) -> Result<T, Refusal>) -> Option<T> {
        let value = self.optional_raw(name)?;
        self.noting(name, Scalar::decode(value).and_then(read))
    }

    /// Reads a field that must be there.
    pub(super) fn required<T>(&mut self, name: &str, read: impl FnOnce(Scalar<'a>) -> Result<T, Refusal>) -> Option<T> {
        let value = self.required_raw(name)?;
        self.noting(name, Scalar::decode(value).and_then(read))
    }

    /// The members of an object that may be absent or null.
    pub(super) fn optional_object(&mut self, name: &str) -> Option<Self> {
        let value = self.optional_raw(name)?;
        self.object(name, value)
    }

    /// The members of an object that must be there.
    pub(super) fn required_object(&mut self, name: &str) -> Option<Self> {
        let value = self.required_raw(name)?;
        self.object(name, value)
    }

    /// The text of a field that may be absent or null.
    pub(super) fn optional_raw(&mut self, name: &str) -> Option<&'a RawValue> {
        self.members.remove(name).filter(|value| value.get() != "null")
    }

    /// Names of the members that have not been read.
    pub(super) fn names(&self) -> Vec<String> {
        self.members.keys().cloned().collect()
    }

    /// Notes what is wrong with a field of this object.
    pub(super) fn refuse(&self, name: &str, refusal: Refusal) {
        self.findings.errors.borrow_mut().push(refusal.at(self.pointer_to(name)));
    }

    /// Notes what is wrong with this object as a whole.
    pub(super) fn refuse_all(&self, refusal: Refusal) {
        self.findings.errors.borrow_mut().push(refusal.at(self.pointer.clone()));
    }

    /// Keeps what was read, or notes why it was refused.
    pub(super) fn noting<T>(&self, name: &str, read: Result<T, Refusal>) -> Option<T> {
        read.map_err(|refusal| self.refuse(name, refusal)).ok()
    }

    /// Ends the reading: members nobody asked for and that are not `ignored` are noted as unknown.
    pub(super) fn finish(self, ignored: &[&str]) {
        let unknown = self.members.keys().filter(|name| !ignored.contains(&name.as_str()));
        let pointers = unknown.take(MAX_NAMED_UNKNOWN).map(|name| UnknownField(self.pointer_to(name)));
        self.findings.unknown.borrow_mut().extend(pointers);
    }

    /// Ends the reading of an object in which an unknown field is never left out; `known` says what it has.
    pub(super) fn finish_closed(self, known: &str) {
        for name in self.members.keys().take(MAX_NAMED_UNKNOWN) {
            self.refuse(name, Refusal::new("unknown_field", format!("is not a known field; there are {known}")));
        }
    }

    fn required_raw(&mut self, name: &str) -> Option<&'a RawValue> {
        let value = self.optional_raw(name);
        if value.is_none() {
            self.refuse(name, Refusal::required());
        }
        value
    }

    fn object(&self, name: &str, value: &'a RawValue) -> Option<Self> {
        let members = self.noting(name, members(value))?;
        Some(Self { pointer: self.pointer_to(name), members, findings: self.findings })
    }

    fn pointer_to(&self, name: &str) -> String {
        format!("{}/{}", self.pointer, name.replace('~', "~0").replace('/', "~1"))
    }
}

/// Of a member written twice the last value counts: a map overwrites.
fn members(value: &RawValue) -> Result<BTreeMap<String, &RawValue>, Refusal> {
    if !value.get().starts_with('{') {
        return Err(Refusal::kind("an object"));
    }
    // The text is known to be JSON: what is left to fail is a name with half a surrogate pair.
    serde_json::from_str(value.get()).map_err(|_| Refusal::format("has a member name that is not valid Unicode"))
}
