//! `benchmarks.md`: the figures between its two marks are written, what stands around them is kept.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::table::{number, ratio_text};
use super::{Report, Row};
use crate::stats::median;

const BEGIN: &str = "<!-- figures: written by `reveille-bench --docs` -->";
const END: &str = "<!-- end of figures -->";

pub(super) fn write(report: &Report, dir: &Path) -> Result<()> {
    let path = dir.join("benchmarks.md");
    let page = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let page = replaced(&page, &figures(report)).with_context(|| format!("no marks in {}", path.display()))?;
    fs::write(&path, page).with_context(|| format!("write {}", path.display()))
}

/// `page` with other figures; `None` when its marks are missing.
fn replaced(page: &str, figures: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{figures}\n{END}{after}"))
}

fn figures(report: &Report) -> String {
    let mut text = String::new();
    for (name, value) in &report.facts {
        text.push_str(&format!("- {name}: {value}\n"));
    }
    text.push_str(&format!(
        "- {} load runs, every one checked: lost {}, early {}\n\n![ratios](benchmarks.svg)\n\n",
        report.runs, report.lost, report.early
    ));
    text.push_str(
        "| | metric | ours | beside it, in the same rounds (ours ÷ that) | goal | |\n|---|---|---|---|---|---|\n",
    );
    for row in &report.rows {
        text.push_str(&line(row));
    }
    text
}

fn line(row: &Row) -> String {
    let beside: Vec<String> = row
        .beside
        .iter()
        .map(|beside| {
            let ratio = row.ratio(beside).map(|ratio| format!(" ({})", ratio_text(ratio))).unwrap_or_default();
            format!("{} {}{ratio}", beside.name, number(beside.median()))
        })
        .collect();
    let unit = if row.unit.is_empty() { String::new() } else { format!(" [{}]", row.unit) };
    let ours = median(&row.ours).map(number).unwrap_or_default();
    let note = if row.note.is_empty() { String::new() } else { format!("<br>{}", row.note) };
    format!(
        "| {} | {}{unit}{note} | {ours} | {} | {} | {} |\n",
        row.id,
        row.metric,
        beside.join("<br>"),
        row.goal,
        row.met().text()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_around_the_figures_is_kept() {
        let page = format!("# A\n{BEGIN}\nold\n{END}\nrest\n");
        let new = replaced(&page, "new").expect("marks");
        assert_eq!(new, format!("# A\n{BEGIN}\n\nnew\n{END}\nrest\n"));
        assert_eq!(replaced(&new, "new"), Some(new.clone()), "twice is once");
        assert_eq!(replaced("no marks", "new"), None);
    }
}
