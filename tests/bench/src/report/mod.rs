//! Figures, what they are held against, and whether a goal is met. Rendering is in the modules below.

mod docs;
mod json;
mod svg;
mod table;

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::stats::{median, median_ratio};

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The goal's number: `P5`.
    pub(crate) id: &'static str,
    pub(crate) metric: String,
    pub(crate) unit: &'static str,
    pub(crate) higher_is_better: bool,
    /// The product's figure in each round.
    pub(crate) ours: Vec<f64>,
    pub(crate) beside: Vec<Beside>,
    /// The goal in words, as it stands in the table of goals.
    pub(crate) goal: &'static str,
    /// All of them must hold. None: a person judges.
    pub(crate) conditions: Vec<Condition>,
    /// Why there is no figure, or what to know of it.
    pub(crate) note: String,
}

/// Another subject's figure in the same rounds.
#[derive(Clone, Debug)]
pub(crate) struct Beside {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) values: Vec<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The product at the commit that the goals call today.
    Base,
    Peer,
    /// What this machine can do at best.
    Limit,
}

/// A part of a goal that can be judged by numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Condition {
    /// Ours over theirs, within each round.
    TimesAtLeast(f64, Kind),
    TimesAtMost(f64, Kind),
    AtMost(f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    Yes,
    No,
    /// Times and memory are reported and judged by a person.
    Person,
    /// What it would be held against was left out.
    Unknown,
    NotMeasured,
}

/// All lines so far, and how they came about.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    /// About the machine, the versions and what was left out.
    pub(crate) facts: Vec<(String, String)>,
    /// Over every load run.
    pub(crate) runs: u64,
    pub(crate) lost: i64,
    pub(crate) early: i64,
}

impl Row {
    pub(crate) fn new(id: &'static str, metric: impl Into<String>, unit: &'static str) -> Self {
        Self {
            id,
            metric: metric.into(),
            unit,
            higher_is_better: false,
            ours: Vec::new(),
            beside: Vec::new(),
            goal: "",
            conditions: Vec::new(),
            note: String::new(),
        }
    }

    /// A rate: more is better.
    pub(crate) fn rate(id: &'static str, metric: impl Into<String>, unit: &'static str) -> Self {
        Self { higher_is_better: true, ..Self::new(id, metric, unit) }
    }

    pub(crate) fn goal(mut self, goal: &'static str, conditions: &[Condition]) -> Self {
        self.goal = goal;
        self.conditions = conditions.to_vec();
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// A line of the goals that nothing measures yet.
    pub(crate) fn not_measured(id: &'static str, metric: &'static str, goal: &'static str, why: &'static str) -> Self {
        Self::new(id, metric, "").goal(goal, &[]).note(format!("not measured yet: {why}"))
    }

    /// Adds a round's figure of `name`; `ours` is the product's.
    pub(crate) fn add(&mut self, name: &str, kind: Kind, value: f64) {
        match self.beside.iter_mut().find(|beside| beside.name == name) {
            Some(beside) => beside.values.push(value),
            None => self.beside.push(Beside { name: name.to_owned(), kind, values: vec![value] }),
        }
    }

    /// Adds a round's figure of the product, this one's or the base's.
    pub(crate) fn add_product(&mut self, name: &str, value: f64) {
        if name == "ours" {
            self.ours.push(value);
        } else {
            self.add(name, Kind::Base, value);
        }
    }

    /// The best of a kind by its median.
    pub(crate) fn best(&self, kind: Kind) -> Option<&Beside> {
        let of_kind = self.beside.iter().filter(|beside| beside.kind == kind);
        let by_median = |one: &&Beside, other: &&Beside| {
            let order = f64::total_cmp(&one.median(), &other.median());
            if self.higher_is_better { order } else { order.reverse() }
        };
        of_kind.max_by(by_median)
    }

    /// What the ratio column is about: the first that the goal names, else the limit, the best peer, the base.
    pub(crate) fn rival(&self) -> Option<&Beside> {
        let named = self.conditions.iter().find_map(|condition| match condition {
            Condition::TimesAtLeast(_, kind) | Condition::TimesAtMost(_, kind) => self.best(*kind),
            _ => None,
        });
        named.or_else(|| [Kind::Limit, Kind::Peer, Kind::Base].into_iter().find_map(|kind| self.best(kind)))
    }

    pub(crate) fn ratio(&self, beside: &Beside) -> Option<f64> {
        median_ratio(&self.ours, &beside.values)
    }

    pub(crate) fn met(&self) -> Met {
        let Some(ours) = median(&self.ours) else {
            return Met::NotMeasured;
        };
        if self.conditions.is_empty() {
            return Met::Person;
        }
        let times = |kind| self.best(kind).and_then(|rival| self.ratio(rival));
        let held = self.conditions.iter().map(|condition| match *condition {
            Condition::TimesAtLeast(least, kind) => times(kind).map(|ratio| ratio >= least),
            Condition::TimesAtMost(most, kind) => times(kind).map(|ratio| ratio <= most),
            Condition::AtMost(most) => Some(ours <= most),
        });
        let held: Vec<Option<bool>> = held.collect();
        if held.contains(&Some(false)) {
            Met::No
        } else if held.contains(&None) {
            Met::Unknown
        } else {
            Met::Yes
        }
    }
}

impl Beside {
    pub(crate) fn median(&self) -> f64 {
        median(&self.values).unwrap_or(f64::NAN)
    }
}

impl Met {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Yes => "met",
            Self::No => "NOT MET",
            Self::Person => "for a person to judge",
            Self::Unknown => "nothing to compare with",
            Self::NotMeasured => "not measured",
        }
    }
}

impl Report {
    /// A load run that was checked for completeness.
    pub(crate) fn checked(&mut self, lost: i64, early: i64) {
        self.runs += 1;
        self.lost += lost;
        self.early += early;
    }

    pub(crate) fn fact(&mut self, name: &str, value: impl Into<String>) {
        self.facts.push((name.to_owned(), value.into()));
    }

    /// The table for a terminal.
    pub(crate) fn text(&self) -> String {
        table::text(self)
    }

    /// The machine-readable copy and the picture, into `dir`.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir)?;
        fs::write(dir.join("benchmarks.json"), json::document(self))?;
        fs::write(dir.join("benchmarks.txt"), self.text())?;
        fs::write(dir.join("benchmarks.svg"), svg::picture(self))?;
        Ok(())
    }

    /// The figures of `benchmarks.md` and its picture, in `dir`.
    pub(crate) fn write_docs(&self, dir: &Path) -> Result<()> {
        docs::write(self, dir)?;
        fs::write(dir.join("benchmarks.svg"), svg::picture(self))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_judged_by_all_its_conditions() {
        let row = |conditions: &[Condition]| {
            let mut row = Row::rate("P5", "burst", "runs/s").goal("", conditions);
            row.add_product("ours", 300.0);
            row.add_product("base", 100.0);
            row.add("slow", Kind::Peer, 50.0);
            row.add("fast", Kind::Peer, 200.0);
            row
        };
        use Condition::{AtMost, TimesAtLeast};
        for (conditions, expected) in [
            (vec![], Met::Person),
            (vec![TimesAtLeast(2.5, Kind::Base), TimesAtLeast(1.5, Kind::Peer)], Met::Yes),
            (vec![TimesAtLeast(2.5, Kind::Base), TimesAtLeast(1.6, Kind::Peer)], Met::No),
            (vec![TimesAtLeast(2.5, Kind::Base), TimesAtLeast(0.6, Kind::Limit)], Met::Unknown),
            (vec![AtMost(299.0), TimesAtLeast(0.6, Kind::Limit)], Met::No),
        ] {
            assert_eq!(row(&conditions).met(), expected, "{conditions:?}");
        }
        assert_eq!(row(&[]).rival().map(|rival| rival.name.as_str()), Some("fast"), "the best peer, not the first");
    }
}
