//! The `reveille` binary: roles by argument.

fn main() {}
