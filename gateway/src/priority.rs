//! Which threads come first: media and signalling, before everything else of this process.

use std::sync::OnceLock;

use rustix::process::{getpriority_process, setpriority_process};

/// Remembers the nice value the process was started with; call it before the first thread.
pub fn remember() {
    if let Ok(nice) = getpriority_process(None) {
        STARTED_WITH.get_or_init(|| nice);
    }
}

/// Steps the calling thread back behind media and signalling. Threads it starts inherit that; stepping back twice is
/// stepping back once.
pub fn step_back() {
    if let Some(nice) = STARTED_WITH.get() {
        // A thread that may not is only less polite.
        let _ = setpriority_process(None, nice + BEHIND);
    }
}

static STARTED_WITH: OnceLock<i32> = OnceLock::new();

/// 5 steps: a thread in front gets three times the share of a busy core.
const BEHIND: i32 = 5;
