//! The Kubernetes manifests speak of settings, ports and paths that the binary has. Whether Kubernetes understands
//! them is checked by `ci/manifests`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// All manifests, each with its path.
fn manifests() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("k8s")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                let text = std::fs::read_to_string(&path).expect("text");
                found.push((path.display().to_string(), text));
            }
        }
    }
    assert!(found.len() > 10, "only {} manifests found: the walk is broken", found.len());
    found
}

fn variables(text: &str) -> BTreeSet<&str> {
    let is_part = |character: char| character.is_ascii_uppercase() || character == '_';
    let words = text.split(|character| !is_part(character));
    words.filter(|word| word.starts_with("REVEILLE_")).collect()
}

#[test]
fn every_variable_in_the_manifests_is_a_setting() {
    let table = Command::new(env!("CARGO_BIN_EXE_reveille")).args(["config", "--markdown"]).output().expect("it runs");
    let table = String::from_utf8(table.stdout).expect("text");
    let known = variables(&table);
    assert!(known.contains("REVEILLE_DATABASE_URL"));
    for (path, text) in manifests() {
        let unknown: Vec<_> = variables(&text).difference(&known).copied().map(str::to_owned).collect();
        assert!(unknown.is_empty(), "{path}: {unknown:?}");
    }
}

#[test]
fn no_manifest_names_a_setting_twice_or_gives_what_is_refused() {
    // What the ConfigMap says must be readable: the binary judges it.
    let (_, config) =
        manifests().into_iter().find(|(path, _)| path.ends_with("base/configmap.yaml")).expect("it is there");
    let pairs = config
        .lines()
        .filter_map(|line| line.trim().split_once(": "))
        .filter(|(name, _)| name.starts_with("REVEILLE_"));
    let pairs: Vec<_> = pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect();
    assert!(pairs.len() >= 5, "{pairs:?}");
    let output = Command::new(env!("CARGO_BIN_EXE_reveille")).arg("config").envs(pairs).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
