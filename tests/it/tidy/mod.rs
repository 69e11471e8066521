//! The never-rules of the architecture, checked over the source tree.
//!
//! Clippy sees calls, Cargo sees crates; what neither sees is which module may do what. Each rule brings
//! examples it must flag and examples it must pass, so that a rule that no longer bites is a failing test.

mod circles;
mod rules;
mod source;

use std::path::Path;

use self::rules::{RULES, Rule};
use self::source::Source;

#[test]
fn the_tree_keeps_every_rule() {
    let sources = source::tree(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(sources.len() > 20, "only {} files found: the walk is broken", sources.len());
    let findings: Vec<String> =
        sources.iter().flat_map(|source| RULES.iter().flat_map(|rule| check(rule, source))).collect();
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn modules_of_a_crate_form_no_circle() {
    let circles = circles::circles(&source::tree(Path::new(env!("CARGO_MANIFEST_DIR"))));
    let told: Vec<String> = circles.iter().map(|circle| circle.join(", ")).collect();
    assert!(told.is_empty(), "{told:?}");
}

/// `UPDATE_MODULES=1 cargo test -p reveille --test it tidy` draws it anew.
#[test]
fn the_picture_of_the_modules_is_theirs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = root.join("docs/modules.md");
    let intro = "# Modules\n\nWhat the first modules of each crate use of each other, drawn by the tidy test out of the sources \
                 (`UPDATE_MODULES=1 cargo\ntest -p reveille --test it tidy`). An arrow points to what is used. There is no circle, \
                 and no file is in one.\n";
    let drawn = intro.to_owned() + &circles::picture(&source::tree(root));
    if std::env::var_os("UPDATE_MODULES").is_some() {
        std::fs::write(&page, &drawn).expect("write the picture");
    }
    assert_eq!(std::fs::read_to_string(&page).unwrap_or_default(), drawn, "docs/modules.md is old");
}

#[test]
fn every_rule_flags_its_bad_examples() {
    for rule in RULES {
        assert!(!rule.flags.is_empty(), "{}: a rule that was never seen to fail proves nothing", rule.name);
        for (path, text) in rule.flags {
            let findings = check(rule, &Source::new(path, text));
            assert!(!findings.is_empty(), "{} must flag {path}:\n{text}", rule.name);
        }
    }
}

#[test]
fn every_rule_passes_its_good_examples() {
    for rule in RULES {
        for (path, text) in rule.passes {
            let findings = check(rule, &Source::new(path, text));
            assert!(findings.is_empty(), "{} must pass {path}:\n{text}\nbut: {findings:?}", rule.name);
        }
    }
}

fn check(rule: &Rule, source: &Source) -> Vec<String> {
    let findings = (rule.find)(source).into_iter();
    findings.map(|(line, what)| format!("{}:{line}: {}: {what}", source.path, rule.name)).collect()
}
