//! What goes over the channel: `{"kind":"wake","state":{…}}`, `{"kind":"nudge","state":{…}}`, `{"kind":"heartbeat","state":{…}}`,
//! `{"kind":"resigned"}`. Written by the scripts.

use serde::Deserialize;

use crate::bus::wake::WakeState;

#[derive(Deserialize)]
#[serde(tag = "kind", content = "state", rename_all = "snake_case")]
pub(super) enum Message {
    Wake(WakeState),
    Nudge(WakeState),
    Heartbeat(WakeState),
    Resigned,
}
