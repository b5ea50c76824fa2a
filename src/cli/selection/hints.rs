//! How to find something where nothing was found.

use std::io;
use std::path::PathBuf;

use super::Reading;
use crate::query::agents::join::{agent_logs, is_of_collector};
use crate::query::files::{LogSource, TimeWindow};
use crate::query::scan::ScanFindings;

impl Reading {
    /// Prints on standard error that no report of an agent was found, where, and how to get some.
    pub(in crate::cli) fn print_no_reports(&self, read: &ScanFindings) -> io::Result<()> {
        let has_none = !self.sources.is_empty() && agent_logs(&self.sources).is_empty();
        let set_up = "`spantap collect --setup PROGRAM` prints how an agent reports its model calls";
        let hint = match has_none {
            true if self.select.window == TimeWindow::default() => set_up.to_owned(),
            true => format!("look further back with `--since 30d`; {set_up}"),
            false if self.has_only_reports() => "choose another time range, or fewer conditions".to_owned(),
            false => self.no_data_hint(read),
        };
        self.print_nothing("no record of an agent", &hint)
    }

    /// Returns true if there are logs, and all of them are of `spantap collect`.
    fn has_only_reports(&self) -> bool {
        !self.sources.is_empty() && self.sources.iter().all(is_of_collector)
    }

    /// Returns where else a session that is not found can be.
    pub(in crate::cli) fn not_found_hint(&self) -> &'static str {
        match agent_logs(&self.sources).is_empty() {
            true => "`spantap sessions` lists sessions, `spantap tail` operations",
            false => {
                "`spantap sessions` lists sessions, `spantap tail` operations; `spantap stats --by turn --session ID` \
                 has what an agent reported without a server of spantap"
            }
        }
    }

    /// Returns how to find something where nothing was found.
    pub(super) fn no_data_hint(&self, read: &ScanFindings) -> String {
        let has_logs = |dir: &PathBuf| {
            LogSource::in_dir(dir, TimeWindow::default()).is_ok_and(|sources| !sources.is_empty())
        };
        let has_no_logs = !self.folders.is_empty() && !self.folders.iter().any(has_logs);
        let is_all_time = self.select.window == TimeWindow::default();
        let is_filtered = !self.wanted.is_empty();
        if self.folders.is_empty() && read.records == 0 && !self.has_only_reports() {
            "session logs are lines of JSON that begin with `{\"schema\":\"spantap/`"
        } else if has_no_logs {
            "watch a server with `spantap -- COMMAND`, or all servers of a host with `spantap wrap`; \
            `spantap demo` shows an example"
        } else if self.has_only_reports() {
            "there are only reports of agents; `spantap stats --by turn` shows them"
        } else if is_all_time {
            match is_filtered {
                true => "leave out an option: no record matches all of them",
                false => "there are records, but not of this kind; `spantap tail` shows operations",
            }
        } else if self.is_time_chosen {
            "choose another time range, or fewer conditions"
        } else if is_filtered {
            "look further back with `--since 30d`, or choose fewer conditions"
        } else {
            "look further back with `--since 30d`; `spantap doctor` shows whether servers are watched"
        }
        .to_owned()
    }
}
