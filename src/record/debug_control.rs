//! The control file of `spantap debug`, which turns debug on in sessions that run.
//!
//! It names its end on two clocks: the machine's steady clock, which counts the time that the machine sleeps, and the
//! wall clock. Debug ends as soon as one of them has reached it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::record::timestamp::Timestamp;
use crate::relay::chunk::Moment;
use crate::text::glob::Glob;

/// Largest size of a control file, in bytes.
pub(crate) const LIMIT: u64 = 4 << 10;
/// Longest time for which debug can be on.
pub(crate) const LONGEST: Duration = Duration::from_secs(24 * 3600);
const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DebugControl {
    version: u32,
    pub(crate) until: Timestamp,
    /// The boot whose steady clock `until_ns` is a time of.
    boot_id: String,
    until_ns: u64,
    /// Pattern for the names of servers; absent for all servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<String>,
    /// True if arguments and results are kept, redacted.
    #[serde(default)]
    pub(crate) bodies: bool,
}

/// The present time on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DebugClock<'a> {
    pub(crate) moment: Moment,
    pub(crate) wall: Timestamp,
    pub(crate) boot_id: &'a str,
}

/// The reason why a control file is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ControlProblem {
    NotReadable,
    /// A later spantap wrote it.
    Version(u32),
    /// It ends later than [`LONGEST`] from now.
    TooLong,
}

impl fmt::Display for ControlProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlProblem::NotReadable => f.write_str("it is not a control file of `spantap debug`"),
            ControlProblem::Version(version) => {
                write!(f, "its version is {version}, and this spantap reads version {VERSION}")
            }
            ControlProblem::TooLong => f.write_str("it ends later than 24 hours from now"),
        }
    }
}

impl DebugControl {
    /// Returns the control file that turns debug on for `time`.
    pub(crate) fn new(time: Duration, server: Option<String>, clock: &DebugClock<'_>) -> DebugControl {
        DebugControl {
            version: VERSION,
            until: clock.wall.plus_ms(time.as_secs_f64() * 1000.0),
            boot_id: clock.boot_id.to_owned(),
            until_ns: clock.moment.after(time).0,
            server,
            bodies: false,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        // A struct of texts and numbers is always serialised.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<DebugControl, ControlProblem> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        match serde_json::from_slice(bytes) {
            Ok(Versioned { version: VERSION }) => {
                serde_json::from_slice(bytes).map_err(|_| ControlProblem::NotReadable)
            }
            Ok(Versioned { version }) => Err(ControlProblem::Version(version)),
            Err(_) => Err(ControlProblem::NotReadable),
        }
    }

    /// Returns the time that is left, zero once it is over.
    pub(crate) fn left(&self, clock: &DebugClock<'_>) -> Result<Duration, ControlProblem> {
        let wall = Duration::from_secs_f64(clock.wall.ms_until(self.until) / 1000.0);
        // The steady clock of another boot cannot be compared.
        let left = match self.boot_id == clock.boot_id {
            true => wall.min(Moment(self.until_ns).since(clock.moment)),
            false => wall,
        };
        if left > LONGEST { Err(ControlProblem::TooLong) } else { Ok(left) }
    }

    pub(crate) fn is_for(&self, server_name: &str) -> bool {
        self.server.as_ref().is_none_or(|pattern| Glob::new(pattern.as_str()).matches(server_name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const NOW: DebugClock<'_> =
        DebugClock { moment: Moment(5_000), wall: Timestamp(1_800_000_000_000_000), boot_id: "b1" };

    fn later(steady: Duration, wall: Duration) -> DebugClock<'static> {
        DebugClock {
            moment: NOW.moment.after(steady),
            wall: NOW.wall.plus_ms(wall.as_secs_f64() * 1000.0),
            ..NOW
        }
    }

    #[test]
    fn it_ends_when_one_of_the_two_clocks_has_reached_the_end() {
        let control = DebugControl::new(HOUR, None, &NOW);
        assert_eq!(control.left(&NOW), Ok(HOUR));
        assert_eq!(control.left(&later(HOUR / 2, HOUR / 2)), Ok(HOUR / 2));
        // The machine slept, and its wall clock is wrong.
        assert_eq!(control.left(&later(HOUR, Duration::ZERO)), Ok(Duration::ZERO));
        assert_eq!(control.left(&later(Duration::ZERO, HOUR)), Ok(Duration::ZERO));
        // After a reboot only the wall clock counts.
        let rebooted = DebugClock { moment: Moment(1), boot_id: "b2", ..later(HOUR, HOUR / 4) };
        assert_eq!(control.left(&rebooted), Ok(HOUR * 3 / 4));
    }

    #[test]
    fn where_boots_have_no_number_a_reboot_changes_nothing() {
        let unnumbered = DebugClock { boot_id: "", ..NOW };
        let control = DebugControl::new(HOUR, None, &unnumbered);
        // The steady clock began again at the boot, so it shows at most the time since the control file was written.
        for (since_boot, since_writing) in [(0, 1), (15, 30), (29, 30), (30, 30), (59, 60), (60, 90)] {
            let [since_boot, since_writing] = [since_boot, since_writing].map(|minutes| HOUR / 60 * minutes);
            let moment = Moment(0).after(since_boot);
            let rebooted = DebugClock { moment, boot_id: "", ..later(Duration::ZERO, since_writing) };
            assert_eq!(control.left(&rebooted), Ok(HOUR.saturating_sub(since_writing)));
        }
    }

    #[test]
    fn an_end_later_than_a_day_from_now_is_refused() {
        assert_eq!(DebugControl::new(LONGEST, None, &NOW).left(&NOW), Ok(LONGEST));
        let long = DebugControl::new(LONGEST + HOUR, None, &NOW);
        assert_eq!(long.left(&NOW), Err(ControlProblem::TooLong));
        let forged = DebugControl { until: Timestamp(i64::MAX), until_ns: u64::MAX, ..long };
        assert_eq!(forged.left(&NOW), Err(ControlProblem::TooLong));
    }

    #[test]
    fn what_was_written_is_read_and_anything_else_is_refused() {
        let control = DebugControl::new(HOUR, Some("git*".to_owned()), &NOW);
        assert_eq!(DebugControl::decode(&control.encode()), Ok(control.clone()));
        assert!(control.is_for("github") && !control.is_for("fs"));
        let newer = String::from_utf8(control.encode()).unwrap().replace("\"version\":1", "\"version\":7");
        assert_eq!(DebugControl::decode(newer.as_bytes()), Err(ControlProblem::Version(7)));
        for garbage in ["", "{}", "[1]", "{\"version\":1}", "{\"version\":-1}", "\u{0}\u{1}", "null"] {
            assert_eq!(
                DebugControl::decode(garbage.as_bytes()),
                Err(ControlProblem::NotReadable),
                "{garbage}"
            );
        }
    }
}
