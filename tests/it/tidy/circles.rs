//! Modules of a crate that import each other: who reads one of them has to read all.
//!
//! A file may use what the `mod.rs` (or `lib.rs`) above it defines, which is the face of their folder; every other path is
//! an edge of the graph.

use std::collections::{BTreeMap, BTreeSet};

use super::source::Source;

/// A module: its crate's folder and its path there.
type Module = (String, Vec<String>);
type Graph = BTreeMap<Module, BTreeSet<Module>>;

/// Groups of modules each of which reaches every other.
pub(crate) fn circles(sources: &[Source]) -> Vec<Vec<String>> {
    let graph = graph(sources);
    let reached: BTreeMap<&Module, BTreeSet<&Module>> =
        graph.keys().map(|module| (module, reach(&graph, module))).collect();
    let mut circles: BTreeSet<Vec<String>> = BTreeSet::new();
    for (module, from_it) in &reached {
        let circle: Vec<String> = from_it
            .iter()
            .filter(|other| reached.get(**other).is_some_and(|back| back.contains(module)))
            .map(|(folder, path)| format!("{folder}::{}", path.join("::")))
            .collect();
        if !circle.is_empty() {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

/// The layers as a picture (Mermaid): per crate what its first modules use of each other.
pub(crate) fn picture(sources: &[Source]) -> String {
    let mut text = String::new();
    let graph = graph(sources);
    let folders: BTreeSet<&String> = graph.keys().map(|(folder, _)| folder).collect();
    for folder in folders {
        let layer = |(of, path): &Module| (of == folder).then(|| path.first().cloned()).flatten();
        let mut edges = BTreeSet::new();
        for (from, used) in &graph {
            edges.extend(used.iter().filter_map(|to| Some((layer(from)?, layer(to)?))).filter(|(from, to)| from != to));
        }
        text += &format!("\n## {folder}\n\n```mermaid\ngraph TD\n");
        edges.iter().for_each(|(from, to)| text += &format!("  {from} --> {to}\n"));
        text += "```\n";
    }
    text
}

fn reach<'a>(graph: &'a Graph, from: &'a Module) -> BTreeSet<&'a Module> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(module) = open.pop() {
        open.extend(graph.get(module).into_iter().flatten().filter(|next| reached.insert(*next)));
    }
    reached
}

fn graph(sources: &[Source]) -> Graph {
    let places: Vec<(Module, &Source)> =
        sources.iter().filter_map(|source| Some((place(&source.path)?, source))).collect();
    let modules: BTreeSet<&Module> = places.iter().map(|(module, _)| module).collect();
    let mut graph = Graph::new();
    for (module, source) in &places {
        // Tests at the end of a file see all of it, which is what they are for.
        let text = source.text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let edges = graph.entry(module.clone()).or_default();
        for (_, path) in Source::new(&source.path, text).paths() {
            let Some(named) = resolve(&path, module, &modules) else { continue };
            let is_above = module.1.starts_with(&named.1);
            if !is_above {
                edges.insert(named);
            }
        }
    }
    graph
}

/// The module of a product's source file.
fn place(path: &str) -> Option<Module> {
    let path = path.strip_suffix(".rs")?;
    let (folder, inner) = match path.strip_prefix("src/") {
        Some(inner) => ("reveille", inner),
        None => path.split_once("/src/")?,
    };
    let is_product = !folder.starts_with("tests") && !inner.ends_with("/tests");
    let mut parts: Vec<String> = inner.split('/').map(str::to_owned).collect();
    if matches!(parts.last().map(String::as_str), Some("mod")) || matches!(inner, "lib" | "main") {
        parts.pop();
    }
    is_product.then(|| (folder.to_owned(), parts))
}

/// The module of this crate that a path leads into.
fn resolve(path: &str, from: &Module, modules: &BTreeSet<&Module>) -> Option<Module> {
    let mut at = from.clone();
    let mut segments = path.split("::").peekable();
    match segments.peek() {
        Some(&"crate") => {
            at.1.clear();
            segments.next();
        }
        Some(&"self") => {
            segments.next();
        }
        Some(&"super") => {
            while segments.next_if_eq(&"super").is_some() {
                at.1.pop();
            }
        }
        _ => {}
    }
    for segment in segments {
        at.1.push(segment.to_owned());
        if !modules.contains(&at) {
            at.1.pop();
            break;
        }
    }
    (at != *from).then_some(at)
}

#[test]
fn a_circle_is_found_and_a_folders_face_is_none() {
    let source = |path: &str, text: &str| Source::new(path, text);
    let round = [
        source("api/src/lib.rs", "mod one;\nmod two;\npub struct Shared;\nuse self::one::One;"),
        source("api/src/one.rs", "use crate::Shared;\nuse crate::two::{Two, Other};\npub struct One;"),
        source("api/src/two/mod.rs", "mod below;\npub struct Two;\nfn f() { self::below::g() }"),
        source("api/src/two/below.rs", "use super::Two;\nfn g() { crate::one::h() }"),
    ];
    assert_eq!(circles(&round), [["api::one", "api::two", "api::two::below"]]);
    let straight = [
        source("api/src/lib.rs", "mod one;\nmod two;\nuse self::one::One;"),
        source("api/src/one.rs", "use crate::two::Two;\n#[cfg(test)]\nmod tests {\n    use super::*;\n}"),
        source("api/src/two.rs", "// use crate::one::One;\npub struct Two;"),
    ];
    assert!(circles(&straight).is_empty());
}
