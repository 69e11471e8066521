//! What `/proc` says of processes: CPU time in nanoseconds and the proportional share of memory.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// What one tick of `/proc/PID/stat` is worth. Linux shows 100 of them a second to every program.
const TICK_NS: u64 = 10_000_000;

/// CPU time of a process so far, of all its threads that live: ns.
pub(crate) fn cpu_ns(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return 0;
    };
    tasks.flatten().map(|task| on_cpu_ns(&task.path())).sum()
}

/// CPU time of a server and of everything it ever started: ns. What has ended is in the parent's account, in ticks.
pub(crate) fn family_cpu_ns(parent: u32) -> u64 {
    let ended = fs::read_to_string(format!("/proc/{parent}/stat")).ok().and_then(|stat| ended_children_ns(&stat));
    let living: u64 = children(parent).into_iter().map(cpu_ns).sum();
    cpu_ns(parent) + ended.unwrap_or(0) + living
}

/// Proportional set size: KiB.
pub(crate) fn pss_kib(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let rollup = fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = rollup.lines().find(|line| line.starts_with("Pss:")).context("no Pss")?;
    line.split_whitespace().nth(1).context("no number")?.parse().context(path)
}

/// Whether `path` is on a file system in memory, where a commit costs nothing.
pub(crate) fn is_in_memory(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mounted = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let innermost = mounted.filter(|(point, _)| path.starts_with(point)).max_by_key(|(point, _)| point.len());
    innermost.is_some_and(|(_, kind)| matches!(kind, "tmpfs" | "ramfs"))
}

fn on_cpu_ns(task: &Path) -> u64 {
    let schedstat = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    schedstat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

/// cutime and cstime: fields 16 and 17, counted after the name in parentheses, which may hold anything.
fn ended_children_ns(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(13);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(ticks * TICK_NS)
}

fn children(parent: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_figures_are_there() {
        let pid = std::process::id();
        // The kernel accounts for a thread when it next looks at it.
        assert!((0..100_000).any(|_| cpu_ns(pid) > 0));
        assert!(pss_kib(pid).is_ok_and(|kib| kib > 0));
        assert!(is_in_memory(Path::new("/dev/shm/x")), "/dev/shm is memory wherever it is mounted");
    }

    #[test]
    fn children_that_ended_are_in_the_parents_account() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 70 80 20 0 1 0";
        assert_eq!(ended_children_ns(stat), Some(150 * TICK_NS));
    }
}
