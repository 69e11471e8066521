//! A cursor over an object of a document: reads fields by type, remembers which are known, reports
//! faults by JSON pointer and goes on, so that all of them are found.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::FieldError;

/// What was found wrong so far.
#[derive(Default)]
pub(super) struct Report {
    pub(super) errors: Vec<FieldError>,
    unknown: Vec<String>,
}

impl Report {
    pub(super) fn error(&mut self, pointer: impl Into<String>, code: &'static str, detail: impl Into<String>) {
        self.errors.push(FieldError { pointer: pointer.into(), code, detail: detail.into() });
    }

    /// Makes faults of the fields nobody knows.
    pub(super) fn refuse_unknown(&mut self) {
        for pointer in std::mem::take(&mut self.unknown) {
            self.error(pointer, "unknown_field", "nobody knows this field");
        }
    }

    /// A sentence for each field nobody knows.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.unknown.iter().map(|pointer| format!("{pointer} is not a known field and was left out")).collect()
    }
}

/// An object and where it stands.
pub(super) struct Fields<'a> {
    at: String,
    map: &'a Map<String, Value>,
    known: BTreeSet<&'static str>,
}

impl<'a> Fields<'a> {
    /// The document itself.
    pub(super) fn root(value: &'a Value, report: &mut Report) -> Option<Self> {
        Self::of(String::new(), value, report)
    }

    fn of(at: String, value: &'a Value, report: &mut Report) -> Option<Self> {
        match value {
            Value::Object(map) => Some(Self { at, map, known: BTreeSet::new() }),
            other => {
                report.error(at, "type", format!("must be an object, not {}", name_of(other)));
                None
            }
        }
    }

    /// Its own pointer.
    pub(super) fn here(&self) -> &str {
        &self.at
    }

    /// The pointer of one of its fields.
    pub(super) fn pointer(&self, name: &str) -> String {
        format!("{}/{}", self.at, name.replace('~', "~0").replace('/', "~1"))
    }

    /// A field's value; null is absent.
    pub(super) fn get(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.insert(name);
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// Fields the server manages: accepted back, and not read.
    pub(super) fn ignore(&mut self, names: &[&'static str]) {
        self.known.extend(names);
    }

    /// Everything in it, for objects whose names are the caller's.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.map.iter()
    }

    /// Reports what nobody asked for.
    pub(super) fn finish(&self, report: &mut Report) {
        let unknown = self.map.keys().filter(|name| !self.known.contains(name.as_str()));
        report.unknown.extend(unknown.map(|name| self.pointer(name)));
    }

    fn missing(&self, name: &str, report: &mut Report) {
        report.error(self.pointer(name), "required", "is required");
    }

    pub(super) fn text(&mut self, name: &'static str, max: usize, report: &mut Report) -> Option<String> {
        let value = self.get(name)?;
        let Value::String(text) = value else {
            report.error(self.pointer(name), "type", format!("must be a string, not {}", name_of(value)));
            return None;
        };
        if text.len() > max {
            report.error(self.pointer(name), "length", format!("is longer than {max} bytes"));
            return None;
        }
        if text.contains('\0') {
            report.error(self.pointer(name), "format", "cannot contain the NUL character");
            return None;
        }
        Some(text.clone())
    }

    pub(super) fn required_text(&mut self, name: &'static str, max: usize, report: &mut Report) -> Option<String> {
        if self.get(name).is_none() {
            self.missing(name, report);
            return None;
        }
        self.text(name, max, report)
    }

    pub(super) fn word<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)], report: &mut Report) -> Option<T> {
        let value = self.get(name)?;
        let meaning = value.as_str().and_then(|text| words.iter().find(|(word, _)| *word == text));
        if meaning.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            report.error(self.pointer(name), "format", format!("must be one of {}", known.join(", ")));
        }
        meaning.map(|(_, meaning)| *meaning)
    }

    pub(super) fn required_word<T: Copy>(
        &mut self,
        name: &'static str,
        words: &[(&str, T)],
        report: &mut Report,
    ) -> Option<T> {
        if self.get(name).is_none() {
            self.missing(name, report);
        }
        self.word(name, words, report)
    }

    pub(super) fn flag(&mut self, name: &'static str, report: &mut Report) -> Option<bool> {
        let value = self.get(name)?;
        if value.as_bool().is_none() {
            report.error(self.pointer(name), "type", format!("must be true or false, not {}", name_of(value)));
        }
        value.as_bool()
    }

    /// A whole number; `60.0` is one.
    pub(super) fn integer(
        &mut self,
        name: &'static str,
        range: RangeInclusive<i64>,
        report: &mut Report,
    ) -> Option<i64> {
        let value = self.get(name)?;
        let Value::Number(number) = value else {
            report.error(self.pointer(name), "type", format!("must be a whole number, not {}", name_of(value)));
            return None;
        };
        let whole = number.as_i64().or_else(|| {
            let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9e15)?;
            Some(float as i64)
        });
        match whole {
            Some(whole) if range.contains(&whole) => Some(whole),
            _ => {
                let (least, most) = range.into_inner();
                report.error(self.pointer(name), "range", format!("must be a whole number from {least} to {most}"));
                None
            }
        }
    }

    pub(super) fn number(
        &mut self,
        name: &'static str,
        range: RangeInclusive<f64>,
        report: &mut Report,
    ) -> Option<f64> {
        let value = self.get(name)?;
        let number = value.as_f64().filter(|number| range.contains(number));
        if number.is_none() {
            let (least, most) = range.into_inner();
            report.error(self.pointer(name), "range", format!("must be a number from {least} to {most}"));
        }
        number
    }

    pub(super) fn object(&mut self, name: &'static str, report: &mut Report) -> Option<Self> {
        let value = self.get(name)?;
        Self::of(self.pointer(name), value, report)
    }

    pub(super) fn required_object(&mut self, name: &'static str, report: &mut Report) -> Option<Self> {
        if self.get(name).is_none() {
            self.missing(name, report);
        }
        self.object(name, report)
    }
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
