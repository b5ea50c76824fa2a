//! How long the pumps have waited for a core, from `/proc`.

use std::path::PathBuf;
use std::time::Duration;

/// Our pumps, as the system's scheduler knows them.
pub(super) struct Pumps(Vec<PathBuf>);

impl Pumps {
    /// None of them where the system does not tell.
    pub(super) fn find() -> Pumps {
        let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let is_pump = |path: &PathBuf| {
            let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
            matches!(name.trim_end(), "stdin" | "stdout" | "stderr")
        };
        Pumps(tasks.map(|task| task.path()).filter(is_pump).map(|path| path.join("schedstat")).collect())
    }

    /// The time that all of them together could have run and did not, since they were started.
    pub(super) fn waited(&self) -> Duration {
        let waited = |path: &PathBuf| waited(&std::fs::read_to_string(path).ok()?);
        Duration::from_nanos(self.0.iter().filter_map(waited).sum())
    }
}

/// The second number of a task's `schedstat`: nanoseconds on a run queue (Linux,
/// `Documentation/scheduler/sched-stats.rst`).
fn waited(schedstat: &str) -> Option<u64> {
    schedstat.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_on_a_run_queue_is_the_second_number() {
        assert_eq!(waited("118064 2904 17\n"), Some(2904));
        assert_eq!(waited(""), None);
    }
}
