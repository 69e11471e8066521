//! The machine-readable copy: every round's figures, not only their medians.

use serde_json::{Value, json};

use super::{Kind, Report, Row};
use crate::stats::median;

pub(super) fn document(report: &Report) -> String {
    let facts: serde_json::Map<String, Value> =
        report.facts.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let rows: Vec<Value> = report.rows.iter().map(row).collect();
    let checks = json!({"load_runs": report.runs, "lost": report.lost, "early": report.early});
    format!("{:#}\n", json!({"facts": facts, "checks": checks, "rows": rows}))
}

fn row(row: &Row) -> Value {
    let beside = row.beside.iter().map(|beside| {
        json!({
            "name": beside.name,
            "kind": kind(beside.kind),
            "median": beside.median(),
            "rounds": beside.values,
            "ratio": row.ratio(beside),
        })
    });
    json!({
        "id": row.id,
        "metric": row.metric,
        "unit": row.unit,
        "ours": {"median": median(&row.ours), "rounds": row.ours},
        "beside": beside.collect::<Vec<_>>(),
        "goal": row.goal,
        "met": row.met().text(),
        "note": row.note,
    })
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Base => "base",
        Kind::Peer => "peer",
        Kind::Limit => "limit",
    }
}
