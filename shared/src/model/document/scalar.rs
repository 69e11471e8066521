//! Readers of single values: each turns a JSON string, number or boolean into a typed value, or says in
//! one sentence why not. They know nothing of the field they read.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::FieldError;

/// Floating-point numbers below it are exact integers.
const EXACT_BELOW: f64 = 9_007_199_254_740_992.0; // 2^53

/// Why a value was refused, before the field it belongs to is known.
#[derive(Debug)]
pub(super) struct Refusal {
    code: &'static str,
    detail: String,
}

impl Refusal {
    pub(super) fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }

    pub(super) fn required() -> Self {
        Self::new("required", "is required")
    }

    /// `expected` with its article: `a string`.
    pub(super) fn kind(expected: &str) -> Self {
        Self::new("type", format!("must be {expected}"))
    }

    pub(super) fn format(detail: impl Into<String>) -> Self {
        Self::new("format", detail)
    }

    pub(super) fn range(detail: impl Into<String>) -> Self {
        Self::new("range", detail)
    }

    pub(super) fn length(detail: impl Into<String>) -> Self {
        Self::new("length", detail)
    }

    pub(super) fn at(self, pointer: String) -> FieldError {
        FieldError { pointer, code: self.code, detail: self.detail }
    }
}

/// A JSON value that is not null.
pub(super) enum Scalar<'a> {
    Text(String),
    /// As written.
    Number(&'a str),
    Bool(bool),
    /// An object or an array: never a scalar, so its content is not looked at.
    Compound,
}

impl<'a> Scalar<'a> {
    pub(super) fn decode(value: &'a RawValue) -> Result<Self, Refusal> {
        let text = value.get();
        match text.as_bytes().first() {
            // The text is known to be JSON: what is left to fail is half a surrogate pair.
            Some(b'"') => serde_json::from_str(text)
                .map(Self::Text)
                .map_err(|_| Refusal::format("is a string that is not valid Unicode")),
            Some(b'{' | b'[') => Ok(Self::Compound),
            Some(b't' | b'f') => Ok(Self::Bool(text == "true")),
            _ => Ok(Self::Number(text)),
        }
    }
}

/// A string of at most `max_bytes` that every store can keep.
pub(super) fn text(max_bytes: usize) -> impl Fn(Scalar<'_>) -> Result<String, Refusal> {
    move |value| match value {
        Scalar::Text(text) => storable(text, max_bytes),
        _ => Err(Refusal::kind("a string")),
    }
}

/// PostgreSQL keeps no text with a NUL in it.
pub(super) fn storable(text: String, max_bytes: usize) -> Result<String, Refusal> {
    if text.len() > max_bytes {
        return Err(Refusal::length(format!("is {} bytes long, at most {max_bytes} are permitted", text.len())));
    }
    if text.contains('\0') {
        return Err(Refusal::format("must not contain the character NUL"));
    }
    Ok(text)
}

pub(super) fn boolean(value: Scalar<'_>) -> Result<bool, Refusal> {
    match value {
        Scalar::Bool(value) => Ok(value),
        _ => Err(Refusal::kind("true or false")),
    }
}

/// A whole number in `range`, which lies in the range of `T`; `60.0` is one.
pub(super) fn integer<T: TryFrom<i64>>(range: RangeInclusive<i64>) -> impl Fn(Scalar<'_>) -> Result<T, Refusal> {
    move |value| {
        let out_of_range = || Refusal::range(format!("must be from {} to {}", range.start(), range.end()));
        let Scalar::Number(written) = value else { return Err(Refusal::kind("a whole number")) };
        let number = whole(written)?.filter(|number| range.contains(number)).ok_or_else(out_of_range)?;
        T::try_from(number).map_err(|_| out_of_range())
    }
}

/// A number for which `permitted` holds; `must` says what that is.
pub(super) fn number(
    permitted: impl Fn(f64) -> bool,
    must: impl Display,
) -> impl Fn(Scalar<'_>) -> Result<f64, Refusal> {
    move |value| {
        let Scalar::Number(written) = value else { return Err(Refusal::kind("a number")) };
        let number: f64 = written.parse().map_err(|_| Refusal::kind("a number"))?;
        if permitted(number) { Ok(number) } else { Err(Refusal::range(format!("must be {must}"))) }
    }
}

/// One of the `words` that are the wire names of `T`.
pub(super) fn word<T: DeserializeOwned>(words: &[&str]) -> impl Fn(Scalar<'_>) -> Result<T, Refusal> {
    move |value| {
        let Scalar::Text(text) = value else { return Err(Refusal::kind("a string")) };
        let known = serde_json::from_value(serde_json::Value::String(text));
        known.map_err(|_| Refusal::format(format!("must be one of {}", words.join(", "))))
    }
}

/// The whole number a JSON number stands for; `None` when it is too large for this product.
pub(super) fn whole(written: &str) -> Result<Option<i64>, Refusal> {
    if let Ok(number) = written.parse() {
        return Ok(Some(number));
    }
    let number: f64 = written.parse().map_err(|_| Refusal::kind("a whole number"))?;
    if number.abs() >= EXACT_BELOW {
        return Ok(None);
    }
    if number.fract() != 0.0 {
        return Err(Refusal::kind("a whole number"));
    }
    Ok(Some(number as i64))
}
