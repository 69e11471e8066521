//! Free ports on the loopback interface.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range from which Linux takes the near end of outgoing connections (32768 and up), so that a
/// server that is down for a moment finds its port free when it comes back.
const FIRST: u16 = 10_000;
const COUNT: u16 = 22_000;

/// A port on which nobody listened a moment ago: for a server about to start, or for a target that refuses.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes run side by side; each begins at another place.
    let start = u16::try_from(std::process::id().wrapping_mul(37) % u32::from(COUNT)).expect("below COUNT");
    (0..COUNT)
        .map(|_| FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("a free port between 10000 and 32000")
}
