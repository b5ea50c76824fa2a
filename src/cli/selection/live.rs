//! The connections that run now, as the reading commands see them.

use std::path::PathBuf;

use super::Reading;
use crate::query::live::{LiveConnection, LiveFolder, Liveness};
use crate::settings::paths;

impl Reading {
    /// Returns all connections that have a live file and no log in another folder, whatever is selected.
    pub(in crate::cli) fn all_live(&self) -> Vec<LiveConnection> {
        self.all_live_in(&mut LiveFolder::default()).0
    }

    /// Like [`all_live`](Reading::all_live), for a command that looks again and again. Returns also one line for each
    /// file that cannot be read.
    pub(in crate::cli) fn all_live_in(&self, live: &mut LiveFolder) -> (Vec<LiveConnection>, Vec<String>) {
        let folder = paths::live_dir().filter(|_| !self.folders.is_empty());
        let (mut connections, problems) = folder.map(|folder| live.read(&folder)).unwrap_or_default();
        let read: Vec<PathBuf> = self.folders.iter().flat_map(std::fs::canonicalize).collect();
        let is_elsewhere = |connection: &LiveConnection| {
            // A folder that is not there is one of a container, whose log can be in another place here.
            std::fs::canonicalize(&connection.state.log_folder).is_ok_and(|own| !read.contains(&own))
        };
        connections.retain(|connection| !is_elsewhere(connection));
        (connections, problems)
    }

    /// Returns the selected connections that have a live file, and one line for each file that cannot be read.
    pub(in crate::cli) fn live(&self) -> (Vec<LiveConnection>, Vec<String>) {
        self.live_in(&mut LiveFolder::default())
    }

    /// Like [`live`](Reading::live), for a command that looks again and again.
    pub(in crate::cli) fn live_in(&self, live: &mut LiveFolder) -> (Vec<LiveConnection>, Vec<String>) {
        let (mut connections, problems) = self.all_live_in(live);
        connections.retain(|connection| self.takes_live(connection));
        (connections, problems)
    }

    /// Returns true if a connection with a live file is selected.
    pub(in crate::cli) fn takes_live(&self, LiveConnection { state, liveness }: &LiveConnection) -> bool {
        // The time of the end of a killed proxy is not known; its last sign of life is.
        let until = self.select.window.until;
        let is_later = *liveness == Liveness::Killed && until.is_some_and(|until| state.updated_at >= until);
        self.select.takes_live(state) && !is_later
    }

    /// Like [`live`](Reading::live), and prints the problems on standard error.
    pub(in crate::cli) fn live_noted(&self) -> Vec<LiveConnection> {
        let (connections, problems) = self.live();
        problems.iter().for_each(|problem| self.note(problem));
        connections
    }
}
