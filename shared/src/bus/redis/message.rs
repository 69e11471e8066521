//! What goes over the channel: `{"kind":"wake","state":{…}}`, `{"kind":"nudge","state":{…}}`, `{"kind":"heartbeat","state":{…}}`,
//! `{"kind":"resigned"}`. Written by the scripts;
//! [`STAGES_WANTED`] by whoever watches stages.

use serde::Deserialize;

use crate::bus::wake::WakeState;

#[derive(Deserialize)]
#[serde(tag = "kind", content = "state", rename_all = "snake_case")]
pub(super) enum Message {
    Wake(WakeState),
    Nudge(WakeState),
    Heartbeat(WakeState),
    Resigned,
    StagesWanted,
}

/// Somebody watches stages. Versions that do not know the message pass over it.
pub(super) const STAGES_WANTED: &str = r#"{"kind":"stages_wanted"}"#;
