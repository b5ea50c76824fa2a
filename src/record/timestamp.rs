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
/// A record contains three timestamps, and a report reads two of each line. This form is therefore written
/// and read digit by digit: 290 instructions to write one and 300 to read one, where jiff's printer takes
/// 530 and its parser 830 (callgrind, optimised build). The calendar is jiff's.
struct Rfc3339([u8; 27]);

impl Rfc3339 {
    fn new(timestamp: Timestamp) -> Rfc3339 {
        let civil = timestamp.civil();
        let mut text = Rfc3339(*b"0000-00-00T00:00:00.000000Z");
        text.put(0..4, i32::from(civil.year()));
        text.put(5..7, i32::from(civil.month()));
        text.put(8..10, i32::from(civil.day()));
        text.put(11..13, i32::from(civil.hour()));
        text.put(14..16, i32::from(civil.minute()));
        text.put(17..19, i32::from(civil.second()));
        text.put(20..26, civil.subsec_nanosecond() / 1000);
        text
    }

    /// Reads this form and nothing else.
    fn parse(text: &[u8]) -> Option<Timestamp> {
        const FORM: &[u8; 27] = b"dddd-dd-ddTdd:dd:dd.ddddddZ";
        let text: &[u8; 27] = text.try_into().ok()?;
        let fits =
            |(form, byte): (&u8, &u8)| if *form == b'd' { byte.is_ascii_digit() } else { form == byte };
        if !FORM.iter().zip(text).all(fits) {
            return None;
        }
        let number = |from: usize, to: usize| {
            text[from..to].iter().fold(0, |sum, digit| sum * 10 + i32::from(digit - b'0'))
        };
        let pair = |at: usize| number(at, at + 2) as i8;
        let (year, nanosecond) = (number(0, 4) as i16, number(20, 26) * 1000);
        let civil = DateTime::new(year, pair(5), pair(8), pair(11), pair(14), pair(17), nanosecond).ok()?;
        Offset::UTC.to_timestamp(civil).ok().map(|instant| Timestamp(instant.as_microsecond()))
    }

    fn put(&mut self, place: std::ops::Range<usize>, number: i32) {
        let mut number = number.unsigned_abs();
        for digit in self.0[place].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
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
        text.parse::<jiff::Timestamp>().map(|instant| Timestamp(instant.as_microsecond()))
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
                Rfc3339::parse(text.as_bytes())
                    .or_else(|| text.parse().ok())
                    .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
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
            assert_eq!(Rfc3339::parse(text.as_bytes()), Some(timestamp), "{text}");
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
