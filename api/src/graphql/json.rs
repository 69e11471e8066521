//! The `JSON` scalar: text on the way out, so that a document leaves byte for byte as REST would show it.
//!
//! On the way in a value has passed through the request's own JSON: numbers beyond 64 bits and white space
//! are gone. A document that must reach its target unchanged is therefore sent as a string that holds it,
//! see [`JsonText::document`].

use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value, to_value};
use serde_json::value::RawValue;

/// JSON as text.
#[derive(Clone, Debug)]
pub(crate) struct JsonText(pub(crate) Box<RawValue>);

/// Any JSON value. What the server returns is the text that was registered, byte for byte.
#[Scalar(name = "JSON", specified_by_url = "https://www.rfc-editor.org/rfc/rfc8259")]
impl ScalarType for JsonText {
    fn parse(value: Value) -> InputValueResult<Self> {
        serde_json::value::to_raw_value(&value).map(Self).map_err(|error| InputValueError::custom(error.to_string()))
    }

    fn to_value(&self) -> Value {
        // With the feature `raw_value` this stays the text it is until the answer is written.
        to_value(&self.0).unwrap_or_default()
    }
}

impl JsonText {
    /// The text of a document: what a string holds, any other value itself.
    pub(crate) fn document(&self) -> String {
        let text = self.0.get();
        serde_json::from_str(text).unwrap_or_else(|_not_a_string| text.to_owned())
    }
}
