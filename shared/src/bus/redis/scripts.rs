//! The Lua scripts, those of the wake state with the common part before them. Sent by hash, and whole when Redis does not
//! know the hash (after a restart, a failover, SCRIPT FLUSH).

use ::redis::Script;

pub(super) struct Scripts {
    pub(super) lower: Script,
    pub(super) mark: Script,
    pub(super) set: Script,
    pub(super) nudge: Script,
    pub(super) beat: Script,
    pub(super) elect: Script,
    pub(super) resign: Script,
    pub(super) workers_tell: Script,
    pub(super) workers_read: Script,
}

macro_rules! script {
    ($file:literal) => {
        Script::new(concat!(include_str!("lua/state.lua"), include_str!(concat!("lua/", $file))))
    };
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            lower: script!("lower.lua"),
            mark: script!("mark.lua"),
            set: script!("set.lua"),
            nudge: script!("nudge.lua"),
            beat: script!("beat.lua"),
            elect: script!("elect.lua"),
            resign: script!("resign.lua"),
            workers_tell: Script::new(include_str!("lua/workers_tell.lua")),
            workers_read: Script::new(include_str!("lua/workers_read.lua")),
        }
    }
}
