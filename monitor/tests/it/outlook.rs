//! When a count of what waits must be made again, by a table.

use std::time::Duration;

use reveille_monitor::outlook::Outlook;
use reveille_shared::store::Backlog;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What is told at so many seconds after a count at 0, `hinted` or not: since when it holds; `None` when it is counted.
fn told(backlog: Backlog, moved: bool, after_s: u64, hinted: bool) -> Option<Duration> {
    let mut outlook = Outlook::default();
    outlook.on_count(s(0), backlog);
    if moved {
        outlook.on_move();
    }
    outlook.standing(s(after_s), hinted).map(|(_, held_at)| held_at)
}

#[test]
fn what_cannot_have_changed_is_not_counted_again() {
    let idle = Backlog::default();
    let overdue = Backlog { overdue_runs: 1, ..idle };
    let running = Backlog { running_runs: 1, ..idle };
    let coming = Backlog { due_next_minute: 1, due_next_five_minutes: 1, ..idle };
    let far = Backlog { due_next_five_minutes: 1, ..idle };
    for (name, backlog, moved, after_s, hinted, expected) in [
        ("a moment ago", overdue, true, 1, true, Some(s(0))),
        ("idle for long", idle, false, 29, false, Some(s(29))),
        ("idle, and something was hinted", idle, false, 2, true, None),
        ("idle, and something was due", idle, true, 2, false, None),
        ("overdue: claims are told to nobody", overdue, false, 2, false, None),
        ("running: settles are told to nobody", running, false, 2, false, None),
        ("coming, and the minute has hardly moved", coming, false, 9, false, Some(s(9))),
        ("coming, and the minute has moved", coming, false, 10, false, None),
        ("coming in five minutes", far, false, 10, false, None),
    ] {
        assert_eq!(told(backlog, moved, after_s, hinted), expected, "{name}");
    }
    assert!(Outlook::default().standing(s(0), false).is_none(), "nothing was counted yet");
}
