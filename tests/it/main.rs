//! Tests of the whole: the architecture's rules over the source tree.

#![expect(clippy::expect_used, reason = "a test that cannot set itself up fails by panicking")]

mod tidy;
