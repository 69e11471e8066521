//! P8: what changes from a thousand future schedules to a million, with statistics missing, stale and fresh. On a
//! server of its own, where nothing collects statistics unasked.

use std::time::Duration;

use anyhow::Result;
use hyper::body::Bytes;
use reveille_testkit::Redis;

use super::{burst, now};
use crate::clock;
use crate::options::Plan;
use crate::report::Condition::{AtMost, TimesAtLeast, TimesAtMost};
use crate::report::{Kind, Report, Row};
use crate::rig::Rig;
use crate::rig::deployment::Deployment;
use crate::rig::load::Copies;
use crate::rig::postgres::{Database, Server};
use crate::rig::template::Template;
use crate::stats::percentile;

const FEW: i64 = 1_000;
/// What is due is numbered from here, beyond all that is not.
const DUE_FROM: i64 = 100_000_000;
/// Often enough that some readings fall into a short window.
const MONITOR: [&str; 2] = ["--recheck", "2s"];
const READINGS: Duration = Duration::from_secs(9);
/// More than the five after which PostgreSQL keeps a plan.
const LOOKUPS: u32 = 8;
const PAGE: u32 = 10;

/// What the planner knows of the tables.
#[derive(Clone, Copy, Debug)]
enum Statistics {
    /// As they were with the few.
    Stale,
    Missing,
    Fresh,
}

/// A deployment among so many future schedules.
struct Side {
    deployment: Deployment,
    template: Template,
    /// Where the next burst's copies begin.
    next: i64,
}

/// One figure of both sides.
struct Pair {
    few: f64,
    many: f64,
}

pub(crate) async fn lines(rig: &Rig, plan: &Plan, report: &mut Report) -> Result<Vec<Row>> {
    let server = Server::without_autovacuum().await?;
    let redis = Redis::start().await;
    let mut few = prepare(rig, &server, &redis, FEW).await?;
    let mut many = prepare(rig, &server, &redis, FEW).await?;
    many.0.execute("ANALYZE").await?;
    let rest =
        Copies { from: FEW + 1, count: plan.many - FEW, due_at: clock::FAR_FUTURE_MS, apart: 1_000, scattered: true };
    crate::say(&format!("  loading {} schedules", plan.many));
    many.1.copy(&many.0, rest).await?;

    let mut rows = Vec::new();
    let mut next = DUE_FROM;
    for statistics in [Statistics::Stale, Statistics::Missing, Statistics::Fresh] {
        Statistics::Fresh.arrange(&few.0).await?; // what it is held against stays what it is
        statistics.arrange(&many.0).await?;
        crate::say(&format!("  statistics {}", statistics.name()));
        let mut sides =
            (attach(rig, &server, &redis, few, next).await?, attach(rig, &server, &redis, many, next).await?);
        rows.extend(both(rig, plan, report, &server, &mut sides, statistics.name()).await?);
        next = sides.0.next.max(sides.1.next);
        few = (sides.0.deployment.stop().await, sides.0.template);
        many = (sides.1.deployment.stop().await, sides.1.template);
    }
    server.discard(few.0).await?;
    server.discard(many.0).await?;
    Ok(rows)
}

/// A database with so many future schedules.
async fn prepare(rig: &Rig, server: &Server, redis: &Redis, count: i64) -> Result<(Database, Template)> {
    let deployment = Deployment::start(&rig.ours, server, redis, 1).await?;
    let url = rig.traffic.url("/burst");
    let mut api = deployment.connect().await?;
    let template = Template::register(&deployment.database, &mut api, &url, "template").await?;
    let copies = Copies { from: 1, count, due_at: clock::FAR_FUTURE_MS, apart: 1_000, scattered: true };
    template.copy(&deployment.database, copies).await?;
    Ok((deployment.stop().await, template))
}

/// New processes: what the ones before planned is forgotten.
async fn attach(
    rig: &Rig,
    server: &Server,
    redis: &Redis,
    (database, template): (Database, Template),
    next: i64,
) -> Result<Side> {
    let deployment = Deployment::attach(&rig.ours, server, redis, database, 1, &MONITOR).await?;
    deployment.warm_up(&rig.traffic.url("/warm-up")).await?;
    Ok(Side { deployment, template, next })
}

/// Everything once with these statistics, the few and the many in turn.
async fn both(
    rig: &Rig,
    plan: &Plan,
    report: &mut Report,
    server: &Server,
    sides: &mut (Side, Side),
    statistics: &str,
) -> Result<Vec<Row>> {
    let what = |what: &str| format!("{what}, {} schedules, statistics {statistics}", plan.many);
    let among_few = format!("among {FEW}");

    let wake = Pair { few: wake_buffers(server, &sides.0).await?, many: wake_buffers(server, &sides.1).await? };
    let mut wake_row = Row::new("P8", what("wake read"), "buffers")
        .goal("≤ 12, ≤ 1.5 × among 1000", &[AtMost(12.0), TimesAtMost(1.5, Kind::Limit)]);
    wake.add_to(&mut wake_row, &among_few);

    let lookups = lookups(server, &sides.0, &sides.1).await?;
    let dearest = lookups.iter().max_by(|one, other| one.1.many.total_cmp(&other.1.many));
    let each: Vec<String> = lookups.iter().map(|(name, pair)| format!("{name} {:.0}", pair.many)).collect();
    let mut lookup_row = Row::new("P8", what("dearest look-up, beyond the page"), "buffers")
        .goal("≤ 30", &[AtMost(30.0)])
        .note(each.join(", "));
    if let Some((_, pair)) = dearest {
        pair.add_to(&mut lookup_row, &among_few);
    }

    let mut now_row =
        Row::new("P8", what("now, alone, p50"), "ms").goal("≤ 1.2 × among 1000", &[TimesAtMost(1.2, Kind::Limit)]);
    let mut burst_row = Row::rate("P8", what(&format!("{} due at once", plan.burst)), "runs/s")
        .goal("≥ 0.9 × among 1000", &[TimesAtLeast(0.9, Kind::Limit)]);
    for round in 0..plan.rounds {
        let mut pair = [f64::NAN; 2];
        let mut rates = [f64::NAN; 2];
        let mut in_turn = [(0, &mut sides.0), (1, &mut sides.1)];
        if round % 2 == 1 {
            in_turn.reverse();
        }
        for (index, side) in in_turn {
            let mut api = side.deployment.connect().await?;
            let latencies = now::alone(rig, &mut api, plan.samples_alone, report).await?;
            pair[index] = percentile(&latencies, 0.5).unwrap_or(f64::NAN);
            let burst = burst::of_running(rig, server, &side.deployment, &side.template, plan.burst, side.next).await?;
            side.next += i64::try_from(plan.burst)? + 1;
            report.checked(burst.lost, burst.early);
            rates[index] = burst.per_s;
        }
        Pair { few: pair[0], many: pair[1] }.add_to(&mut now_row, &among_few);
        Pair { few: rates[0], many: rates[1] }.add_to(&mut burst_row, &among_few);
    }
    Ok(vec![burst_row, now_row, wake_row, lookup_row])
}

/// Buffers that one reading of the monitor touches.
async fn wake_buffers(server: &Server, side: &Side) -> Result<f64> {
    let role = &side.deployment.roles.monitor;
    // The forecast reads the same and more.
    let spent = async || {
        let (all, forecasts) = (server.buffers(role, "next_due").await?, server.buffers(role, "next_minute").await?);
        anyhow::Ok((all.0 - forecasts.0, all.1 - forecasts.1))
    };
    let before = spent().await?;
    tokio::time::sleep(READINGS).await;
    let after = spent().await?;
    Ok((after.0 - before.0) as f64 / (after.1 - before.1).max(1) as f64)
}

/// Buffers of a page by each client field, beyond those of the same page without a filter.
async fn lookups(server: &Server, few: &Side, many: &Side) -> Result<Vec<(&'static str, Pair)>> {
    let filters = [
        ("application", "application=application-400"),
        ("group", "group=client_group-40"),
        ("key", "key=copy-700"),
        ("operation", "operation=operation-30"),
        ("type", "type=client_type-20"),
    ];
    let pages = (page_buffers(server, few, "").await?, page_buffers(server, many, "").await?);
    let mut lookups = Vec::new();
    for (name, filter) in filters {
        let few = page_buffers(server, few, filter).await? - pages.0;
        let many = page_buffers(server, many, filter).await? - pages.1;
        lookups.push((name, Pair { few: few.max(0.0), many: many.max(0.0) }));
    }
    Ok(lookups)
}

async fn page_buffers(server: &Server, side: &Side, filter: &str) -> Result<f64> {
    let mut api = side.deployment.connect().await?;
    let role = &side.deployment.roles.api;
    let before = server.buffers(role, "schedules").await?;
    for _ in 0..LOOKUPS {
        let (status, body) = api.send("GET", &format!("/schedules?limit={PAGE}&{filter}"), Bytes::new()).await?;
        anyhow::ensure!(status == 200, "look-up by {filter}: {status} {}", String::from_utf8_lossy(&body));
    }
    let after = server.buffers(role, "schedules").await?;
    Ok((after.0 - before.0) as f64 / f64::from(LOOKUPS))
}

impl Pair {
    fn add_to(&self, row: &mut Row, few: &str) {
        row.add_product("ours", self.many);
        row.add(few, Kind::Limit, self.few);
    }
}

impl Statistics {
    fn name(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Missing => "missing",
            Self::Fresh => "fresh",
        }
    }

    async fn arrange(self, database: &Database) -> Result<()> {
        match self {
            Self::Stale => Ok(()), // analyzed with the few, and not since
            Self::Missing => {
                let tables = "(SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)";
                let forget = format!(
                    "DELETE FROM pg_statistic WHERE starelid IN {tables};
                     UPDATE pg_class SET reltuples = -1, relpages = 0, relallvisible = 0 WHERE relkind = 'r' AND oid IN {tables}"
                );
                database.execute("VACUUM").await?; // the bursts before left dead rows, which are another matter
                database.execute(&forget).await
            }
            Self::Fresh => database.execute("VACUUM ANALYZE").await,
        }
    }
}
