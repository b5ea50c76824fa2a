//! The wall-clock times of records: RFC 3339 in UTC with six decimals.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};
use schemars::JsonSchema;
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::relay::chunk::Moment;

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    pub fn now() -> Timestamp {
        std::time::SystemTime::now().into()
    }

    /// Reads a time in the form of records; `None` for any other form, and before 1970 and after 9998.
    pub(crate) fn of_record(text: &[u8; 27]) -> Option<Timestamp> {
        Rfc3339::parse(text)
    }

    /// Returns the instant `ms` milliseconds later, or earlier if `ms` is negative. The result stays within
    /// the years that a record can contain, so that the difference of two instants does not overflow.
    pub(crate) fn plus_ms(self, ms: f64) -> Timestamp {
        /// -9999-01-01 and the end of 9999, UTC.
        const YEARS: std::ops::RangeInclusive<i64> = -377_705_116_800_000_000..=253_402_300_799_999_999;
        Timestamp(self.0.saturating_add((ms * 1000.0) as i64).clamp(*YEARS.start(), *YEARS.end()))
    }

    /// Returns the milliseconds until `later`; 0 if it is not later.
    pub(crate) fn ms_until(self, later: Timestamp) -> f64 {
        later.0.saturating_sub(self.0).max(0) as f64 / 1000.0
    }

    /// Returns this instant in `zone`, written by a format of strftime.
    pub(crate) fn local(self, zone: &TimeZone, form: &str) -> String {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(instant) => instant.to_zoned_datetime(zone.clone()).strftime(form).to_string(),
            Err(_) => self.to_string(),
        }
    }

    pub(crate) fn date(self) -> Date {
        self.civil().date()
    }

    /// Returns date and time in UTC; times beyond the years that jiff knows are the first or the last one.
    fn civil(self) -> DateTime {
        let limit = if self.0 < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
        Offset::UTC.to_datetime(jiff::Timestamp::from_microsecond(self.0).unwrap_or(limit))
    }
}

/// One instant on both clocks: ties the steady clock, which events use, to the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct ClockAnchor {
    pub moment: Moment,
    pub wall: Timestamp,
}

impl ClockAnchor {
    pub fn wall(&self, moment: Moment) -> Timestamp {
        let micros = (i128::from(moment.0) - i128::from(self.moment.0)) / 1000;
        Timestamp(self.wall.0.saturating_add(micros as i64))
    }
}

/// Times before 1970 become 1970.
impl From<std::time::SystemTime> for Timestamp {
    fn from(time: std::time::SystemTime) -> Timestamp {
        let since_epoch = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
    }
}

/// `YYYY-MM-DDThh:mm:ss.ffffffZ`.
///
/// A record contains three timestamps, and a report reads two of each line. This form is therefore written digit by
/// digit and read by eight characters, with a calendar of its own for the years from 1970 to 9998. Other times are left
/// to jiff.
struct Rfc3339([u8; 27]);

/// In microseconds, as a [`Timestamp`] counts.
const SECOND: u64 = 1_000_000;
const DAY: u64 = 86_400 * SECOND;

impl Rfc3339 {
    fn new(timestamp: Timestamp) -> Rfc3339 {
        let (year, month, day, time) = match u64::try_from(timestamp.0) {
            Ok(micros) if micros < Rfc3339::END => {
                let (year, month, day) = date_of(micros / DAY);
                (year, month, day, micros % DAY)
            }
            _ => {
                let civil = timestamp.civil();
                let time = civil.time().duration_since(jiff::civil::Time::midnight()).as_micros();
                let number = |number: i8| number.unsigned_abs().into();
                (civil.year().unsigned_abs().into(), number(civil.month()), number(civil.day()), time as u64)
            }
        };
        let (seconds, micros) = (time / SECOND, time % SECOND);
        let mut text = Rfc3339(*b"0000-00-00T00:00:00.000000Z");
        text.put(0..4, year);
        text.put(5..7, month);
        text.put(8..10, day);
        text.put(11..13, seconds / 3600);
        text.put(14..16, seconds / 60 % 60);
        text.put(17..19, seconds % 60);
        text.put(20..26, micros);
        text
    }

    /// 9999-01-01, in microseconds.
    const END: u64 = 2_932_532 * DAY;

    /// Reads this form and nothing else.
    fn parse(text: &[u8; 27]) -> Option<Timestamp> {
        let date = EightDigits::read(text, 0, *b"0000-00-")?;
        // The year's last digit comes again, and stands between two others.
        let day = EightDigits::read(text, 3, *b"0-00-00T")?;
        let time = EightDigits::read(text, 11, *b"00:00:00")?;
        let micros = EightDigits::read(text, 19, *b".000000Z")?;
        let (year, month, day) = (date.pair(0) * 100 + date.pair(2), day.pair(2), day.pair(5));
        let (hour, minute, second) = (time.pair(0), time.pair(3), time.pair(6));
        if !(1970..=9998).contains(&year) || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let days = day_number(year, month, day)?;
        let seconds = (hour * 60 + minute) * 60 + second;
        let micros = (micros.pair(1) * 100 + micros.pair(3)) * 100 + micros.pair(5);
        i64::try_from(days * DAY + seconds * SECOND + micros).ok().map(Timestamp)
    }

    fn put(&mut self, place: std::ops::Range<usize>, mut number: u64) {
        for digit in self.0[place].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Eight characters, of which some are digits. Each byte is the number of its digit and the next one's together: 42 where
/// a 4 and a 2 begin.
struct EightDigits(u64);

impl EightDigits {
    /// Reads the characters of `text` at `at`. Returns `None` unless there is a digit where `form` has a 0, and
    /// otherwise the character of `form`.
    fn read(text: &[u8; 27], at: usize, form: [u8; 8]) -> Option<EightDigits> {
        let characters = u64::from_le_bytes(text[at..].first_chunk().copied()?);
        // Digits become numbers up to 9, and the other characters 0.
        let digits = characters ^ u64::from_le_bytes(form);
        // Sets the highest bit of each byte that is more.
        let more =
            digits.wrapping_add(u64::from_le_bytes(form.map(|byte| if byte == b'0' { 0x76 } else { 0x7f })));
        let is_form = (digits | more) & u64::from_le_bytes([0x80; 8]) == 0;
        is_form.then(|| EightDigits(digits * 10 + (digits >> 8)))
    }

    /// Returns the number of the two digits that begin at `at`.
    fn pair(&self, at: u32) -> u64 {
        self.0 >> (8 * at) & 0xff
    }
}

/// Days from 0000-03-01 to 1970-01-01. A year that begins in March has its leap day at the end.
const MARCH_TO_1970: u64 = 719_468;
const DAYS_OF_400_YEARS: u64 = 146_097;

/// Returns year, month and day of a day by its number since 1970-01-01. Source: Howard Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms".
fn date_of(days: u64) -> (u64, u64, u64) {
    let days = days + MARCH_TO_1970;
    let day_of_era = days % DAYS_OF_400_YEARS;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (days / DAYS_OF_400_YEARS * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Returns the number of a day since 1970-01-01; `None` if the month does not have it. The year is 1970 or
/// later.
fn day_number(year: u64, month: u64, day: u64) -> Option<u64> {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let last = match month {
        2 => 28 + u64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=last).contains(&day) {
        return None;
    }
    let year = year - u64::from(month <= 2);
    let month = if month > 2 { month - 3 } else { month + 9 };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * DAYS_OF_400_YEARS + day_of_era - MARCH_TO_1970)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Rfc3339::new(*self).as_str())
    }
}

impl FromStr for Timestamp {
    type Err = jiff::Error;

    /// Reads any RFC 3339 instant, to the microsecond.
    fn from_str(text: &str) -> Result<Timestamp, jiff::Error> {
        match text.as_bytes().try_into().ok().and_then(Timestamp::of_record) {
            Some(timestamp) => Ok(timestamp),
            None => text.parse::<jiff::Timestamp>().map(|instant| Timestamp(instant.as_microsecond())),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(Rfc3339::new(*self).as_str())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        struct TimestampVisitor;

        impl Visitor<'_> for TimestampVisitor {
            type Value = Timestamp;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an RFC 3339 instant")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Timestamp, E> {
                text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_str(TimestampVisitor)
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "format": "date-time",
            "description": "RFC 3339 in UTC with six decimals",
            "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_instant_is_written_and_read_back() {
        for text in [
            "1970-01-01T00:00:00.000000Z",
            "2026-11-24T09:14:03.512004Z",
            "2000-02-28T23:59:59.999999Z",
            "2000-02-29T23:59:59.999999Z",
            "2100-03-01T00:00:00.000001Z",
            "2026-12-31T00:00:00.000001Z",
            "1969-12-28T23:59:59.999999Z",
            "1969-12-31T23:59:59.999999Z",
            "9999-12-30T21:59:59.999999Z",
            "0001-01-01T00:00:00.000000Z",
        ] {
            let timestamp: Timestamp = text.parse().unwrap();
            assert_eq!(timestamp.to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn the_own_calendar_is_that_of_jiff(micros in 0..Rfc3339::END as i64) {
            let instant = jiff::Timestamp::from_microsecond(micros).unwrap();
            let timestamp = Timestamp(instant.as_microsecond());
            prop_assert_eq!(timestamp.to_string(), format!("{instant:.6}"));
            prop_assert_eq!(Rfc3339::parse(timestamp.to_string().as_bytes().try_into().unwrap()), Some(timestamp));
        }

        #[test]
        fn a_text_in_the_form_of_records_is_read_as_jiff_reads_it(
            text in "(19[67][0-9]|20[0-9]{2}|[0-9]{4})-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9][.][0-9]{6}Z"
        ) {
            let by_jiff = text.parse::<jiff::Timestamp>().ok().map(|instant| Timestamp(instant.as_microsecond()));
            prop_assert_eq!(text.parse::<Timestamp>().ok(), by_jiff);
            if let Some(timestamp) = Rfc3339::parse(text.as_bytes().try_into().unwrap()) {
                prop_assert_eq!(Some(timestamp), by_jiff);
            }
        }
    }

    #[test]
    fn an_instant_in_another_form_is_read_and_other_text_is_not() {
        let read = |text: &str| serde_json::from_value::<Timestamp>(text.into());
        assert_eq!(read("2026-11-24T10:14:03.5+01:00").unwrap().to_string(), "2026-11-24T09:14:03.500000Z");
        for text in ["2026-02-30T00:00:00.000000Z", "2026-13-01T00:00:00.000000Z", "now", ""] {
            assert!(read(text).is_err(), "{text}");
        }
        // A leap second is the last second of its minute.
        assert_eq!(
            read("2016-12-31T23:59:60.000000Z").unwrap(),
            read("2016-12-31T23:59:59.000000Z").unwrap()
        );
    }

    #[test]
    fn an_instant_beyond_the_calendar_is_its_end() {
        assert_eq!(Timestamp(i64::MAX).to_string(), "9999-12-30T22:00:00.999999Z");
        assert_eq!(Timestamp(i64::MIN).date().year(), -9999);
    }
}
