//! The place of a span in a distributed trace, as it travels between services: the `traceparent` header.
//! Source: W3C Trace Context, level 1, 3.2.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Which span of which trace. Written and read as `00-<trace id>-<span id>-<flags>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// Never 0.
    pub trace_id: u128,
    /// Never 0.
    pub span_id: u64,
    /// Whether the trace is recorded.
    pub sampled: bool,
}

const SAMPLED: u8 = 1;

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

/// Not a `traceparent`. The specification wants such a value ignored, so nobody needs to know why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotATraceParent;

impl FromStr for TraceParent {
    type Err = NotATraceParent;

    fn from_str(text: &str) -> Result<Self, NotATraceParent> {
        let (version, rest) = text.split_once('-').ok_or(NotATraceParent)?;
        let (trace_id, rest) = rest.split_once('-').ok_or(NotATraceParent)?;
        let (span_id, flags) = rest.split_once('-').ok_or(NotATraceParent)?;
        let version = hex(version, 2)?;
        // Later versions may add fields after the flags, this one has none.
        let flags = if version == 0 { flags } else { flags.split('-').next().unwrap_or_default() };
        let (trace_id, span_id, flags) = (hex(trace_id, 32)?, hex(span_id, 16)?, hex(flags, 2)?);
        if version == 0xff || trace_id == 0 || span_id == 0 {
            return Err(NotATraceParent);
        }
        let span_id = u64::try_from(span_id).map_err(|_| NotATraceParent)?;
        Ok(Self { trace_id, span_id, sampled: flags & u128::from(SAMPLED) != 0 })
    }
}

/// Lower case only, as the specification has it, and no sign, which the number parser would take.
fn hex(text: &str, digits: usize) -> Result<u128, NotATraceParent> {
    let is_hex = text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_hex {
        return Err(NotATraceParent);
    }
    u128::from_str_radix(text, 16).map_err(|_| NotATraceParent)
}

impl Serialize for TraceParent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads a stored one; what cannot be read counts as absent, for it is no reason not to run.
pub(crate) fn stored<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<TraceParent>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.and_then(|text| text.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn check(text: &str, is_one: bool) {
        assert_eq!(text.parse::<TraceParent>().is_ok(), is_one, "{text}");
    }

    #[test]
    fn what_is_read_is_written_again() {
        let parsed: TraceParent = TEXT.parse().unwrap();
        assert_eq!((parsed.span_id, parsed.sampled), (0xb7ad_6b71_6920_3331, true));
        assert_eq!(parsed.to_string(), TEXT);
        let unsampled = TEXT.replace("-01", "-00");
        assert_eq!(unsampled.parse::<TraceParent>().unwrap().to_string(), unsampled);
    }

    #[test]
    fn only_the_specified_form_is_read() {
        check(TEXT, true);
        check(&TEXT.replace("00-", "01-"), true);
        check(&(TEXT.replace("00-", "cc-") + "-what-comes-later"), true);
        check(&(TEXT.to_owned() + "-more"), false);
        check(&TEXT.replace("00-", "ff-"), false);
        check(&TEXT.to_uppercase(), false);
        check(&TEXT.replace("0af7", "+af7"), false);
        check(&TEXT.replace("b7ad6b7169203331", "0000000000000000"), false);
        check(&TEXT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)), false);
        check(&TEXT[..TEXT.len() - 1], false);
        check(&TEXT.replace("0af7", "é7"), false);
        check("", false);
        check("00---", false);
    }
}
