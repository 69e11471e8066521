//! The log is best effort: a line that cannot be written is dropped and counted, and nobody ever waits for whoever reads
//! it. Written by a thread of its own, because a pipe that nobody empties and a disk that is full hold up the writer.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait to be written, at most.
const WAITING: usize = 4096;

/// How long the end of the process waits for its last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Lines that could not be written.
pub(crate) fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

enum Part {
    Line(Vec<u8>),
    /// Everything before this has been written, or dropped.
    Mark(SyncSender<()>),
}

/// Where the log goes. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Lines {
    parts: SyncSender<Part>,
}

impl Lines {
    /// To stderr.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(crate) fn to_stderr() -> io::Result<Self> {
        let (parts, waiting) = sync_channel(WAITING);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || write_all(&waiting))?;
        Ok(Self { parts })
    }

    /// Waits for the lines so far, for a moment.
    pub(crate) fn flush(&self) {
        let (mark, written) = sync_channel(1);
        if self.parts.try_send(Part::Mark(mark)).is_ok() {
            let _ = written.recv_timeout(LAST_LINES);
        }
    }
}

fn write_all(parts: &Receiver<Part>) {
    let mut stderr = io::stderr();
    while let Ok(part) = parts.recv() {
        match part {
            Part::Line(line) if stderr.write_all(&line).is_err() => _ = DROPPED.fetch_add(1, Ordering::Relaxed),
            Part::Line(_) => {}
            Part::Mark(mark) => _ = mark.try_send(()),
        }
    }
}

/// One call is one line: the formatter writes each as a whole.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.parts.try_send(Part::Line(line.to_vec()))
        {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
