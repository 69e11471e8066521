//! What the documentation says that can be checked: the table of settings is the one the binary prints, and every link
//! leads somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn the_table_of_settings_is_the_binarys() {
    let printed =
        Command::new(env!("CARGO_BIN_EXE_reveille")).args(["config", "--markdown"]).output().expect("it runs");
    let printed = String::from_utf8(printed.stdout).expect("text");
    let page = fs::read_to_string(Path::new(ROOT).join("docs/reference/configuration.md")).expect("the page");
    assert!(
        page.contains(printed.trim()),
        "run `reveille config --markdown` and put its table into docs/reference/configuration.md:\n{printed}"
    );
}

#[test]
fn every_link_leads_somewhere() {
    let mut pages = Vec::new();
    walk(Path::new(ROOT), &mut pages);
    assert!(pages.len() > 60, "only {} pages found: the walk is broken", pages.len());
    let mut broken = Vec::new();
    for page in &pages {
        let text = fs::read_to_string(page).expect("a page");
        for target in links(&text) {
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file = if path.is_empty() { page.clone() } else { page.parent().expect("a folder").join(path) };
            let leads = file.exists()
                && (anchor.is_empty() || anchors(&fs::read_to_string(&file).unwrap_or_default()).contains(anchor));
            if !leads {
                broken.push(format!("{}: {target}", page.strip_prefix(ROOT).expect("below the root").display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn links_and_anchors_are_found() {
    assert_eq!(links("see [a](b.md#c-d) and `[x](y)`, [web](https://e.example)\n```\n[no](no.md)\n```"), ["b.md#c-d"]);
    assert!(anchors("## Why was it late?\n").contains("why-was-it-late"));
}

fn walk(dir: &Path, pages: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if entry.is_dir() && !["target", ".git", "data", "node_modules"].contains(&name) {
            walk(&entry, pages);
        } else if name.ends_with(".md") {
            pages.push(entry);
        }
    }
}

/// Targets of links within the repository, outside of code.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let prose: String = text.split("```").step_by(2).collect();
    for part in prose.split('`').step_by(2) {
        for (at, _) in part.match_indices("](") {
            let target = part[at + 2..].split(')').next().unwrap_or_default();
            if !target.contains("://") && !target.starts_with("mailto:") {
                found.push(target.to_owned());
            }
        }
    }
    found
}

/// Anchors of the headings, as the usual renderers make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|heading| {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
            kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
        })
        .collect()
}
