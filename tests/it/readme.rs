//! The README's table of settings is the one the binary prints.

use std::process::Command;

#[test]
fn the_table_of_settings_is_the_binarys() {
    let printed =
        Command::new(env!("CARGO_BIN_EXE_reveille")).args(["config", "--markdown"]).output().expect("it runs");
    let printed = String::from_utf8(printed.stdout).expect("text");
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(readme).expect("the README");
    assert!(
        readme.contains(printed.trim()),
        "run `reveille config --markdown` and put its table into README.md:\n{printed}"
    );
}
