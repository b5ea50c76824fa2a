//! Wall-clock instants as they stand in records: RFC 3339 in UTC with six decimals.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    pub fn now() -> Timestamp {
        std::time::SystemTime::now().into()
    }

    /// The instant `ms` milliseconds later (earlier, where negative), within the years that a record can
    /// say, so that no two instants are further apart than their difference can be written.
    pub fn plus_ms(self, ms: f64) -> Timestamp {
        /// -9999-01-01 and the end of 9999, UTC.
        const YEARS: std::ops::RangeInclusive<i64> = -377_705_116_800_000_000..=253_402_300_799_999_999;
        Timestamp(self.0.saturating_add((ms * 1000.0) as i64).clamp(*YEARS.start(), *YEARS.end()))
    }

    /// Days since 1970-01-01 and microseconds of that day.
    fn split(self) -> (i64, i64) {
        const DAY: i64 = 86_400_000_000;
        (self.0.div_euclid(DAY), self.0.rem_euclid(DAY))
    }

    /// `(year, month, day)` in the proleptic Gregorian calendar, UTC.
    pub fn date(self) -> (i64, u32, u32) {
        // Days to civil date by eras of 400 years, the year beginning in March so that the leap day
        // is its last.
        let days = self.split().0 + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        (year, month as u32, day as u32)
    }
}

/// A time before 1970 counts as 1970.
impl From<std::time::SystemTime> for Timestamp {
    fn from(time: std::time::SystemTime) -> Timestamp {
        let since_epoch = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
    }
}

/// `YYYY-MM-DDThh:mm:ss.uuuuuuZ`, digit by digit: a record holds three of these, and the formatting
/// machinery takes longer for one than the rest of the record.
struct Text([u8; 27]);

impl Text {
    fn new(timestamp: Timestamp) -> Text {
        let (year, month, day) = timestamp.date();
        let micros = timestamp.split().1 as u64;
        let seconds = micros / 1_000_000;
        let mut text = Text(*b"0000-00-00T00:00:00.000000Z");
        text.put(0..4, year.clamp(0, 9999) as u64);
        text.put(5..7, u64::from(month));
        text.put(8..10, u64::from(day));
        text.put(11..13, seconds / 3600);
        text.put(14..16, seconds / 60 % 60);
        text.put(17..19, seconds % 60);
        text.put(20..26, micros % 1_000_000);
        text
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

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Text::new(*self).as_str())
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
        serializer.serialize_str(Text::new(*self).as_str())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
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
            "2000-02-29T23:59:59.999999Z",
            "2100-03-01T00:00:00.000001Z",
            "1969-12-31T23:59:59.999999Z",
            "9999-12-30T21:59:59.999999Z",
            "0001-01-01T00:00:00.000000Z",
        ] {
            assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), text);
        }
    }
}
