//! What goes over the channel: `{"kind":"wake","state":{…}}`, `nudge` and `heartbeat` alike, `{"kind":"soon","at":…}`,
//! `{"kind":"resigned"}`. Written by the scripts; [`STAGES_WANTED`] by whoever watches stages, [`BACKLOG_WANTED`] by
//! whoever is asked for the backlog.
//!
//! A message of a kind that a version does not know is passed over by it, and costs it what the message would have
//! spared: a worker that does not know `soon` waits for the monitor's look.

use serde::Deserialize;

use crate::bus::wake::WakeState;
use crate::model::UnixMs;

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Message {
    Wake { state: WakeState },
    Nudge { state: WakeState },
    Heartbeat { state: WakeState },
    Soon { at: UnixMs },
    Resigned,
    StagesWanted,
    BacklogWanted,
}

/// Somebody watches stages.
pub(super) const STAGES_WANTED: &str = r#"{"kind":"stages_wanted"}"#;

/// Somebody asks for the backlog.
pub(super) const BACKLOG_WANTED: &str = r#"{"kind":"backlog_wanted"}"#;
