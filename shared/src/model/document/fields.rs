//! A cursor over an object of a document: reads fields by type, remembers which are known, reports
//! faults by JSON pointer and goes on, so that all of them are found.
//!
//! Works on the text and not on a tree of values, so that what a field cannot hold (a number beyond doubles,
//! half a surrogate pair) is that field's fault, and is nobody's fault inside `data`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde_json::value::RawValue;

use super::{DocumentError, FieldError};

/// Deepest nesting of arrays and objects, the document included.
const DEPTH_MAX: usize = 32;
/// Faults and warnings that are reported: nobody mends more at a time, and an answer stays smaller than what
/// was asked.
const REPORTED_MAX: usize = 64;
/// Up to here every whole number is exact in a double.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0; // 2^53

/// What was found wrong so far.
#[derive(Default)]
pub(super) struct Report {
    pub(super) errors: Vec<FieldError>,
    unknown: Vec<String>,
}

impl Report {
    pub(super) fn error(&mut self, pointer: impl Into<String>, code: &'static str, detail: impl Into<String>) {
        if self.errors.len() < REPORTED_MAX {
            self.errors.push(FieldError { pointer: pointer.into(), code, detail: detail.into() });
        }
    }

    /// Makes faults of the fields nobody knows.
    pub(super) fn refuse_unknown(&mut self) {
        for pointer in std::mem::take(&mut self.unknown) {
            self.error(pointer, "unknown_field", "nobody knows this field");
        }
    }

    /// A sentence for each field nobody knows.
    pub(super) fn warnings(&self) -> Vec<String> {
        let named = self.unknown.iter().take(REPORTED_MAX);
        named.map(|pointer| format!("{pointer} is not a known field and was left out")).collect()
    }
}

/// An object and where it stands.
pub(super) struct Fields<'a> {
    at: String,
    map: BTreeMap<String, &'a RawValue>,
    known: BTreeSet<&'static str>,
}

impl<'a> Fields<'a> {
    /// The object a body consists of; `None` with a fault reported when it is other JSON.
    pub(super) fn document(body: &'a [u8], report: &mut Report) -> Result<Option<Self>, DocumentError> {
        let syntax = |error: serde_json::Error| DocumentError::Syntax { detail: error.to_string() };
        let raw: &RawValue = serde_json::from_slice(body).map_err(syntax)?;
        if nesting(raw.get()) > DEPTH_MAX {
            report.error("", "depth", format!("is nested deeper than {DEPTH_MAX} levels"));
            return Ok(None);
        }
        Ok(Self::of(String::new(), raw, report))
    }

    fn of(at: String, raw: &'a RawValue, report: &mut Report) -> Option<Self> {
        if !raw.get().starts_with('{') {
            report.error(at, "type", format!("must be an object, not {}", name_of(raw)));
            return None;
        }
        // Of a repeated name the last value counts. What can still be wrong is a name that is no Unicode.
        match serde_json::from_str(raw.get()) {
            Ok(map) => Some(Self { at, map, known: BTreeSet::new() }),
            Err(_) => {
                report.error(at, "format", "the name of a field is not valid Unicode");
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

    /// A field's JSON; null is absent.
    pub(super) fn get(&mut self, name: &'static str) -> Option<&'a RawValue> {
        self.known.insert(name);
        self.map.get(name).copied().filter(|raw| raw.get() != "null")
    }

    /// Fields the server manages: accepted back, and not read.
    pub(super) fn ignore(&mut self, names: &[&'static str]) {
        self.known.extend(names);
    }

    /// Everything in it, for objects whose names are the caller's.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&String, &'a RawValue)> {
        self.map.iter().map(|(name, raw)| (name, *raw))
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
        let raw = self.get(name)?;
        if !is_text(raw) {
            report.error(self.pointer(name), "type", format!("must be a string, not {}", name_of(raw)));
            return None;
        }
        let Some(text) = text_of(raw) else {
            report.error(self.pointer(name), "format", "is not valid Unicode");
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
        Some(text)
    }

    pub(super) fn required_text(&mut self, name: &'static str, max: usize, report: &mut Report) -> Option<String> {
        if self.get(name).is_none() {
            self.missing(name, report);
            return None;
        }
        self.text(name, max, report)
    }

    pub(super) fn word<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)], report: &mut Report) -> Option<T> {
        let text = text_of(self.get(name)?);
        let meaning = text.and_then(|text| words.iter().find(|(word, _)| *word == text));
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
        let raw = self.get(name)?;
        match raw.get() {
            "true" => Some(true),
            "false" => Some(false),
            _ => {
                report.error(self.pointer(name), "type", format!("must be true or false, not {}", name_of(raw)));
                None
            }
        }
    }

    /// A whole number; `60.0` is one.
    pub(super) fn integer(
        &mut self,
        name: &'static str,
        range: RangeInclusive<i64>,
        report: &mut Report,
    ) -> Option<i64> {
        let raw = self.get(name)?;
        if !is_number(raw) {
            report.error(self.pointer(name), "type", format!("must be a whole number, not {}", name_of(raw)));
            return None;
        }
        match whole_number(raw) {
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
        let raw = self.get(name)?;
        let number = raw.get().parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            let (least, most) = range.into_inner();
            report.error(self.pointer(name), "range", format!("must be a number from {least} to {most}"));
        }
        number
    }

    pub(super) fn object(&mut self, name: &'static str, report: &mut Report) -> Option<Self> {
        let raw = self.get(name)?;
        Self::of(self.pointer(name), raw, report)
    }

    pub(super) fn required_object(&mut self, name: &'static str, report: &mut Report) -> Option<Self> {
        if self.get(name).is_none() {
            self.missing(name, report);
        }
        self.object(name, report)
    }
}

pub(super) fn is_text(raw: &RawValue) -> bool {
    raw.get().starts_with('"')
}

pub(super) fn is_number(raw: &RawValue) -> bool {
    raw.get().starts_with(|first: char| first == '-' || first.is_ascii_digit())
}

/// `None` for what is no string, and for one that is no Unicode.
pub(super) fn text_of(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

/// The value of a number without a fraction, also where it is written with one: `60.0`.
pub(super) fn whole_number(raw: &RawValue) -> Option<i64> {
    if let Ok(number) = raw.get().parse() {
        return Some(number);
    }
    let number: f64 = raw.get().parse().ok()?;
    let is_whole = number.fract() == 0.0 && number.abs() <= EXACT_MAX;
    is_whole.then_some(number as i64) // a whole number within ±2^53 is an i64
}

fn name_of(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// How deep arrays and objects are nested in a text that is known to be JSON.
fn nesting(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth -= 1,
            _ => {}
        }
    }
    deepest
}
