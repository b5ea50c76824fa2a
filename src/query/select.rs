//! The selection of records that count: the parsed SELECT options.

use std::collections::HashSet;
use std::time::Duration;

use jiff::civil;
use jiff::tz::TimeZone;

use crate::query::entry::LogEntry;
use crate::query::files::TimeWindow;
use crate::record::CHECK_CLIENT;
use crate::record::live::{LiveRequest, LiveState};
use crate::record::timestamp::Timestamp;
use crate::record::words::Status;
use crate::text::duration;
use crate::text::glob::Glob;

/// Longest age that a point in time is given by: 3,170 years.
const MAX_AGE: Duration = Duration::from_secs(100_000_000_000);

/// The conditions on a record; the default selects all records.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// A record matches any pattern of a list; an empty list matches all.
    pub(crate) servers: Vec<Glob>,
    pub(crate) tools: Vec<Glob>,
    /// Beginning of a session id or connection id, or the end of a connection id as in handles and file names.
    pub(crate) session: Option<String>,
    /// Ids of the sessions that have a connection of this selection, if they were looked up: what an agent reported
    /// belongs to a session, and `session` can name a connection.
    pub(crate) sessions_of_connection: HashSet<Box<str>>,
    /// The whole id of the only session that is selected.
    pub(crate) only_session: Option<String>,
    pub(crate) method: Option<Glob>,
    /// [`Status::Error`] selects any error, see [`Status::is_error`].
    pub(crate) status: Option<Status>,
    pub(crate) window: TimeWindow,
    /// Least duration in milliseconds.
    pub(crate) min_duration: Option<f64>,
    /// Ids of connections that are not selected, because their calls are in the log of another connection too.
    pub(crate) inner: HashSet<Box<str>>,
    /// Ids of further connections that are not selected.
    pub(crate) left_out: HashSet<Box<str>>,
    /// True if sessions of `spantap check` are selected too.
    pub(crate) checks: bool,
}

impl Selection {
    /// Returns the selection of all calls of the same servers, tools, sessions and time. A tool of which only some
    /// calls are selected is not a tool without a call.
    pub fn of_every_call(&self) -> Selection {
        Selection { method: None, status: None, min_duration: None, ..self.clone() }
    }

    /// Returns true if the server, session and time of a record are selected.
    pub(crate) fn takes_context(&self, entry: &LogEntry<'_>) -> bool {
        self.window.since.is_none_or(|since| entry.timestamp >= since) && self.takes_lasting(entry)
    }

    /// Returns true if the server and session of a record are selected, and the record is not after the selected
    /// time. It may be older: what it says about its connection still holds.
    pub(crate) fn takes_lasting(&self, entry: &LogEntry<'_>) -> bool {
        self.window.until.is_none_or(|until| entry.timestamp < until)
            && self.takes_connection(entry)
            && (self.checks || *entry.host_name != *CHECK_CLIENT)
            && (self.inner.is_empty() || !self.inner.contains(&*entry.connection_id))
    }

    /// Returns true if the server and session of a record are selected.
    pub(crate) fn takes_connection(&self, entry: &LogEntry<'_>) -> bool {
        matches_any(&self.servers, &entry.server_name)
            && self.only_session.as_deref().is_none_or(|only| *entry.session_id == *only)
            && (self.left_out.is_empty() || !self.left_out.contains(&*entry.connection_id))
            && self.session.as_deref().is_none_or(|wanted| belongs(entry, wanted))
    }

    /// Returns true if the server and session of a connection that runs now are selected.
    pub(crate) fn takes_live(&self, state: &LiveState) -> bool {
        matches_any(&self.servers, &state.server_name)
            && self.only_session.as_deref().is_none_or(|only| state.session_id == only)
            && !self.left_out.contains(&*state.connection_id)
            && (self.checks || state.host_name != CHECK_CLIENT)
            && self.session.as_deref().is_none_or(|wanted| {
                state.session_id.starts_with(wanted)
                    || state.connection_id.starts_with(wanted)
                    || (wanted.len() >= LEAST_END && state.connection_id.ends_with(wanted))
            })
    }

    /// Returns true if a request that is open now can become a selected operation.
    pub(crate) fn takes_open(&self, request: &LiveRequest) -> bool {
        matches_any(&self.tools, &request.target)
            && self.method.as_ref().is_none_or(|method| method.matches(&request.method))
            && self.status.is_none()
            && self.window.until.is_none()
    }

    /// Returns true if the name of a tool is selected.
    pub(crate) fn takes_tool(&self, name: &str) -> bool {
        matches_any(&self.tools, name)
    }

    /// Returns true if the record is a selected operation.
    pub(crate) fn takes_operation(&self, entry: &LogEntry<'_>) -> bool {
        entry.is_operation()
            && self.takes_context(entry)
            && matches_any(&self.tools, entry.target())
            && self.method.as_ref().is_none_or(|method| method.matches(&entry.method))
            && self.status.is_none_or(|status| match status {
                Status::Error => entry.status.is_error(),
                status => entry.status == status,
            })
            && self.min_duration.is_none_or(|least| entry.duration_ms.is_some_and(|ms| ms >= least))
    }

    /// Returns true if a session with this id is selected.
    pub(crate) fn takes_session(&self, session_id: &str) -> bool {
        self.only_session.as_deref().is_none_or(|only| session_id == only)
            && self.session.as_deref().is_none_or(|wanted| {
                session_id.starts_with(wanted) || self.sessions_of_connection.contains(session_id)
            })
    }

    /// Returns true if only some servers, connections or operations of this session are selected.
    pub(crate) fn is_part_of(&self, session_id: &str) -> bool {
        let is_whole = self.session.as_deref().is_none_or(|wanted| session_id.starts_with(wanted));
        self.is_about_operations() || !self.servers.is_empty() || !is_whole
    }

    /// Returns true if the selection depends on properties of operations, so that other events do not count.
    pub(crate) fn is_about_operations(&self) -> bool {
        !self.tools.is_empty()
            || self.method.is_some()
            || self.status.is_some()
            || self.min_duration.is_some()
    }
}

/// Fewest characters of the end of a connection id that name it, as in a handle.
const LEAST_END: usize = 6;

/// Returns true if `wanted` is the beginning of the record's session id or connection id, or the end of its
/// connection id.
pub(crate) fn belongs(entry: &LogEntry<'_>, wanted: &str) -> bool {
    entry.session_id.starts_with(wanted)
        || entry.connection_id.starts_with(wanted)
        || (wanted.len() >= LEAST_END && entry.connection_id.ends_with(wanted))
}

fn matches_any(globs: &[Glob], text: &str) -> bool {
    globs.is_empty() || globs.iter().any(|glob| glob.matches(text))
}

/// Parses a point in time: RFC 3339 (without an offset: local time), the beginning of a day as in [`day`],
/// `now`, or an age such as `30m`, `6h`, `7d`.
pub(crate) fn moment(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, String> {
    if text == "now" {
        return Ok(now);
    }
    if let Ok(age) = duration::parse(text)
        && age < MAX_AGE
    {
        return Ok(Timestamp(now.0.saturating_sub(age.as_micros() as i64)));
    }
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant);
    }
    if let Some(date) = date(text, now, zone) {
        return instant(date.at(0, 0, 0, 0), zone);
    }
    if let Ok(at) = text.parse::<civil::DateTime>() {
        return instant(at, zone);
    }
    Err(format!(
        "`{text}` is not a time; for example 6h, 7d, today, monday, 2026-11-24 or 2026-11-24T09:00:00Z"
    ))
}

/// Parses a local day: `today`, `yesterday`, a date, or a weekday, which means the last one that has begun.
pub(crate) fn day(text: &str, now: Timestamp, zone: &TimeZone) -> Result<TimeWindow, String> {
    let unknown = || format!("`{text}` is not a day; for example today, yesterday, tuesday or 2026-11-24");
    let date = date(text, now, zone).ok_or_else(unknown)?;
    let next = date.tomorrow().map_err(|error| error.to_string())?;
    let at_midnight = |date: civil::Date| instant(date.at(0, 0, 0, 0), zone);
    Ok(TimeWindow { since: Some(at_midnight(date)?), until: Some(at_midnight(next)?) })
}

fn date(text: &str, now: Timestamp, zone: &TimeZone) -> Option<civil::Date> {
    use civil::Weekday::{Friday, Monday, Saturday, Sunday, Thursday, Tuesday, Wednesday};
    let today = jiff::Timestamp::from_microsecond(now.0).ok()?.to_zoned_datetime(zone.clone()).date();
    let weekday = match text.to_ascii_lowercase().as_str() {
        "today" => return Some(today),
        "yesterday" => return today.yesterday().ok(),
        "monday" | "mon" => Monday,
        "tuesday" | "tue" => Tuesday,
        "wednesday" | "wed" => Wednesday,
        "thursday" | "thu" => Thursday,
        "friday" | "fri" => Friday,
        "saturday" | "sat" => Saturday,
        "sunday" | "sun" => Sunday,
        date if date.len() == "2026-11-24".len() => return date.parse().ok(),
        _ => return None,
    };
    match today.weekday() == weekday {
        true => Some(today),
        false => today.nth_weekday(-1, weekday).ok(),
    }
}

fn instant(at: civil::DateTime, zone: &TimeZone) -> Result<Timestamp, String> {
    let zoned = at.to_zoned_datetime(zone.clone()).map_err(|error| error.to_string())?;
    Ok(Timestamp(zoned.timestamp().as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_parsed_in_all_forms() {
        let now: Timestamp = "2026-11-24T09:14:03.500000Z".parse().unwrap();
        let berlin = TimeZone::fixed(jiff::tz::offset(1));
        for (text, expected) in [
            ("now", "2026-11-24T09:14:03.500000Z"),
            ("30m", "2026-11-24T08:44:03.500000Z"),
            ("7d", "2026-11-17T09:14:03.500000Z"),
            ("1.5h", "2026-11-24T07:44:03.500000Z"),
            ("today", "2026-11-23T23:00:00.000000Z"),
            ("yesterday", "2026-11-22T23:00:00.000000Z"),
            ("2026-11-20", "2026-11-19T23:00:00.000000Z"),
            ("tuesday", "2026-11-23T23:00:00.000000Z"),
            ("Wed", "2026-11-17T23:00:00.000000Z"),
            ("monday", "2026-11-22T23:00:00.000000Z"),
            ("2026-11-20T10:00:00", "2026-11-20T09:00:00.000000Z"),
            ("2026-11-20T10:00:00Z", "2026-11-20T10:00:00.000000Z"),
            ("2026-11-20T10:00:00-02:00", "2026-11-20T12:00:00.000000Z"),
        ] {
            assert_eq!(moment(text, now, &berlin).unwrap().to_string(), expected, "{text}");
        }
        for text in ["", "soon", "7y", "7", "99999999999999999999d", "2026-02-31"] {
            assert!(moment(text, now, &berlin).is_err(), "{text}");
        }
    }

    #[test]
    fn a_day_is_as_long_as_in_its_time_zone() {
        let now: Timestamp = "2026-10-26T09:00:00Z".parse().unwrap();
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        for (text, since, until) in [
            ("2026-10-24", "2026-10-23T22:00:00.000000Z", "2026-10-24T22:00:00.000000Z"),
            ("sunday", "2026-10-24T22:00:00.000000Z", "2026-10-25T23:00:00.000000Z"),
            ("yesterday", "2026-10-24T22:00:00.000000Z", "2026-10-25T23:00:00.000000Z"),
            ("monday", "2026-10-25T23:00:00.000000Z", "2026-10-26T23:00:00.000000Z"),
        ] {
            let day = day(text, now, &berlin).unwrap();
            let found = [day.since, day.until].map(|at| at.unwrap().to_string());
            assert_eq!(found, [since, until], "{text}");
        }
        for text in ["", "7d", "now", "2026-10-24T09:00:00Z", "9999-12-31"] {
            assert!(day(text, now, &berlin).is_err(), "{text}");
        }
    }
}
