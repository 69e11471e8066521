//! P12: how large the program is, and how soon it is ready.

use anyhow::Result;

use crate::options::Plan;
use crate::report::Condition::AtMost;
use crate::report::Row;
use crate::rig::Rig;
use crate::rig::deployment::Deployment;
use crate::rig::embedded::Embedded;

const MIB: f64 = 1024.0 * 1024.0;

pub(crate) async fn lines(rig: &Rig, plan: &Plan) -> Result<Vec<Row>> {
    let mut size = Row::new("P12", "size of the binary", "MiB").goal("≤ 40", &[AtMost(40.0)]);
    let mut first = Row::new("P12", "serve, first start to ready, with migration", "ms").goal("≤ 100", &[]);
    let mut again = Row::new("P12", "serve, start to ready", "ms").goal("≤ 100", &[]);
    let mut api = Row::new("P12", "api on PostgreSQL, start to ready", "ms").goal("≤ 100", &[]);
    for subject in rig.subjects() {
        size.add_product(subject.name, std::fs::metadata(&subject.binary)?.len() as f64 / MIB);
    }
    for round in 0..plan.rounds {
        for subject in super::in_turn(rig.subjects(), round) {
            let embedded = Embedded::start(subject).await?;
            first.add_product(subject.name, embedded.started_in.as_secs_f64() * 1000.0);
            let embedded = Embedded::start_in(subject, embedded.stop().await).await?;
            again.add_product(subject.name, embedded.started_in.as_secs_f64() * 1000.0);
            embedded.stop().await;

            let database = Deployment::start(subject, &rig.server, &rig.redis, 1).await?.stop().await;
            let deployment = Deployment::attach(subject, &rig.server, &rig.redis, database, 1, &[]).await?;
            api.add_product(subject.name, deployment.api.ready_in.as_secs_f64() * 1000.0);
            rig.server.discard(deployment.stop().await).await?;
        }
    }
    let clone = Row::not_measured("P12", "clone to first delivered call", "≤ 4 min", "a person times a fresh clone");
    Ok(vec![size, first, again, api, clone])
}
