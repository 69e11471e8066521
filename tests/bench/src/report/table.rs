//! The table for a terminal: a line per goal, and below it what else was measured in the same rounds.

use super::{Met, Report, Row};
use crate::stats::median;

pub(super) fn text(report: &Report) -> String {
    let mut text = String::new();
    for (name, value) in &report.facts {
        text.push_str(&format!("{name}: {value}\n"));
    }
    let width = report.rows.iter().map(|row| metric(row).chars().count()).max().unwrap_or(0).max(60);
    text.push_str(&format!(
        "\n{:<4} {:<width$} {:>12} {:>12} {:>7}  {}\n",
        "", "metric", "ours", "beside", "ratio", "goal: met or not"
    ));
    for row in &report.rows {
        text.push_str(&line(row, width));
        for beside in &row.beside {
            let ratio = row.ratio(beside).map(ratio_text).unwrap_or_default();
            let (name, value) = (&beside.name, number(beside.median()));
            text.push_str(&format!("     {:<width$} {:>12} {value:>12} {ratio:>7}\n", format!("  {name}"), ""));
        }
        if !row.note.is_empty() {
            text.push_str(&format!("       ({})\n", row.note));
        }
    }
    text.push_str(&format!("\n{} load runs: lost {}, early {}\n", report.runs, report.lost, report.early));
    text
}

fn metric(row: &Row) -> String {
    if row.unit.is_empty() { row.metric.clone() } else { format!("{} [{}]", row.metric, row.unit) }
}

fn line(row: &Row, width: usize) -> String {
    let metric = metric(row);
    let ours = median(&row.ours).map(number).unwrap_or_default();
    let rival = row.rival().map(|rival| number(rival.median())).unwrap_or_default();
    let ratio = row.rival().and_then(|rival| row.ratio(rival)).map(ratio_text).unwrap_or_default();
    let met = if row.met() == Met::NotMeasured { String::new() } else { format!(": {}", row.met().text()) };
    format!("{:<4} {metric:<width$} {ours:>12} {rival:>12} {ratio:>7}  {}{met}\n", row.id, row.goal)
}

/// As many digits as mean something.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 1000.0 => grouped(value),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

pub(super) fn ratio_text(ratio: f64) -> String {
    if ratio >= 100.0 { format!("{ratio:.0} ×") } else { format!("{ratio:.2} ×") }
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_long_as_they_mean_something() {
        for (value, text) in [(0.0, "0"), (0.011, "0.0110"), (3.7, "3.70"), (52.04, "52.0"), (1234567.8, "1 234 568")] {
            assert_eq!(number(value), text);
        }
    }
}
