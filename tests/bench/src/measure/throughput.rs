//! P5 and P6: bursts of the product, its base and its peers, and what one run costs each of them.

use anyhow::Result;

use super::burst::{self, Burst, Cost};
use super::roofline;
use crate::options::Plan;
use crate::report::Condition::{AtMost, TimesAtLeast};
use crate::report::{Kind, Report, Row};
use crate::rig::Rig;
use crate::rig::deployment::Subject;
use crate::rig::peers::Peer;

/// What untuned peers get: enough to see their rate, few enough that a round ends.
const AS_THEY_COME: usize = 1_000;

/// Who takes part in a round.
#[derive(Clone, Copy)]
enum Contender<'a> {
    Product(&'a Subject),
    Peer(Peer),
}

/// P5, and P6 with it.
pub(crate) async fn bursts(rig: &Rig, plan: &Plan, report: &mut Report) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let goal = "≥ 1.5 × the best peer, ≥ 2.5 × base, ≥ 0.6 × roofline";
    let conditions = [TimesAtLeast(1.5, Kind::Peer), TimesAtLeast(2.5, Kind::Base), TimesAtLeast(0.6, Kind::Limit)];
    let row = Row::rate("P5", format!("{} due at once, 1 worker", plan.burst), "runs/s").goal(goal, &conditions);
    rows.extend(burst_rows(rig, plan, report, row, plan.burst, 1).await?);

    let row = Row::rate("P5", format!("{} due at once, 2 workers", plan.burst), "runs/s").goal("", &[]);
    rows.extend(burst_rows(rig, plan, report, row, plan.burst, 2).await?.into_iter().take(1));
    if let Some(large) = plan.large_burst {
        let row = Row::rate("P5", format!("{large} due at once, 1 worker"), "runs/s")
            .goal("≥ 0.9 of the smaller one's rate", &[]);
        let mut large = burst_rows(rig, plan, report, row, large, 1).await?;
        large.truncate(1);
        if let (Some(large), Some(small)) = (large.first_mut(), rows.first()) {
            small.ours.iter().for_each(|rate| large.add("ours, the smaller burst", Kind::Limit, *rate));
            large.conditions = vec![TimesAtLeast(0.9, Kind::Limit)];
        }
        rows.extend(large);
    }
    Ok(rows)
}

/// One size: the rate first, then the lines of P6.
async fn burst_rows(
    rig: &Rig,
    plan: &Plan,
    report: &mut Report,
    mut rate: Row,
    jobs: usize,
    workers: usize,
) -> Result<Vec<Row>> {
    let mut costs = cost_rows(jobs);
    let mut firsts = Vec::new();
    for round in 0..plan.rounds {
        if jobs == plan.burst {
            rate.add("roofline: HTTP client and SQL sharing the CPU", Kind::Limit, roofline::rate(rig, jobs).await?);
        }
        for contender in contenders(rig, round, workers == 1 && jobs <= plan.burst) {
            let (name, kind) = (contender.name(), contender.kind());
            let jobs = if matches!(contender, Contender::Peer(peer) if !peer.is_tuned()) { AS_THEY_COME } else { jobs };
            let measured = match contender {
                Contender::Product(subject) => burst::of_product(rig, subject, jobs, workers).await,
                Contender::Peer(peer) => match &rig.peers {
                    Some(peers) => burst::of_peer(rig, peers, peer, jobs, workers).await,
                    None => continue,
                },
            };
            let burst = match measured {
                Ok(burst) => burst,
                // A peer that fails is a figure less, not the end of the round.
                Err(error) if kind == Kind::Peer => {
                    crate::say(&format!("  {name}: {error:#}"));
                    continue;
                }
                Err(error) => return Err(error),
            };
            crate::say(&format!("  round {}: {name}: {}", round + 1, told(&burst)));
            if kind != Kind::Peer {
                report.checked(burst.lost, burst.early);
            } else if burst.lost != 0 {
                continue; // it did not finish in time: there is no rate to compare with
            }
            if name == "ours" {
                firsts.push(burst.first_ms);
            }
            add(&mut rate, name, kind, burst.per_s);
            if let Some(cost) = burst.cost {
                costs.iter_mut().for_each(|(row, figure)| add(row, name, kind, figure(&cost)));
            }
        }
    }
    if let Some(first) = crate::stats::median(&firsts) {
        rate.note = format!("first call seen {first:.1} ms after the instant; untuned peers with {AS_THEY_COME}");
    }
    Ok(std::iter::once(rate).chain(costs.into_iter().map(|(row, _)| row)).collect())
}

fn add(row: &mut Row, name: &str, kind: Kind, value: f64) {
    if kind == Kind::Peer { row.add(name, kind, value) } else { row.add_product(name, value) }
}

type Figure = fn(&Cost) -> f64;

fn cost_rows(jobs: usize) -> Vec<(Row, Figure)> {
    let row = |what: &str, unit, goal, conditions: &[_]| {
        Row::new("P6", format!("{what} per run, {jobs} due at once"), unit).goal(goal, conditions)
    };
    vec![
        (row("CPU of PostgreSQL", "µs", "≤ 60", &[]), (|cost| cost.database_cpu_us) as Figure),
        (row("CPU of the worker", "µs", "", &[]), |cost| cost.worker_cpu_us),
        (row("WAL without full-page images", "bytes", "≤ 1229", &[AtMost(1229.0)]), |cost| cost.wal_bytes),
        (row("full-page images", "bytes", "", &[]), |cost| cost.full_page_image_bytes),
        (row("row versions", "", "≤ 2.2", &[AtMost(2.2)]), |cost| cost.row_versions),
        (row("statements", "", "≤ 0.02", &[AtMost(0.02)]), |cost| cost.statements),
    ]
}

/// Everybody of a round, in reverse every second time; with `all` every peer, without it the fastest on PostgreSQL.
fn contenders(rig: &Rig, round: usize, all: bool) -> Vec<Contender<'_>> {
    let subjects = rig.subjects().into_iter().map(Contender::Product);
    let peers = Peer::ALL.into_iter().filter(|peer| all || *peer == Peer::GraphileTuned);
    let peers = peers.filter(|_| rig.peers.is_some()).map(Contender::Peer);
    let mut contenders: Vec<Contender<'_>> = subjects.chain(peers).collect();
    if round % 2 == 1 {
        contenders.reverse();
    }
    contenders
}

fn told(burst: &Burst) -> String {
    let Burst { per_s, first_ms, lost, early, repeated, .. } = burst;
    format!("{per_s:.0}/s, first call after {first_ms:.1} ms, lost {lost}, early {early}, repeated {repeated}")
}

impl Contender<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Product(subject) => subject.name,
            Self::Peer(peer) => peer.name(),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Product(_) => Kind::Base,
            Self::Peer(_) => Kind::Peer,
        }
    }
}
