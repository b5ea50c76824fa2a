//! Parses durations as users write them: `250ms`, `1.5h`, `7d`.

use std::time::Duration;

/// The reason why a text is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DurationError {
    /// The text does not begin with a number.
    Number,
    /// The number is not followed by a known unit.
    Unit,
    TooLong,
}

impl std::fmt::Display for DurationError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            DurationError::Number => "expected a number first, for example 30s",
            DurationError::Unit => "expected a number and ms, s, m, h, d or w, for example 30s",
            DurationError::TooLong => "too long",
        })
    }
}

impl std::error::Error for DurationError {}

/// Parses `250ms`, `30s`, `15m` or `15min`, `2h`, `7d`, `1w`; the number may have decimals.
///
/// # Errors
/// If the number or the unit is missing or unknown, or if the duration does not fit into a [`Duration`].
pub(crate) fn parse(text: &str) -> Result<Duration, DurationError> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        "w" => 604_800.0,
        _ => return Err(DurationError::Unit),
    };
    let number: f64 = number.parse().map_err(|_| DurationError::Number)?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| DurationError::TooLong)
}

/// Parses a duration that is longer than zero.
///
/// # Errors
/// If [`parse`] fails or the duration is zero.
pub(crate) fn parse_positive(text: &str) -> Result<Duration, String> {
    match parse(text) {
        Ok(Duration::ZERO) => Err("expected a duration of more than 0".to_owned()),
        parsed => parsed.map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, parsed) in [
            ("250ms", Ok(Duration::from_millis(250))),
            ("1.5h", Ok(Duration::from_secs(5_400))),
            ("15m", Ok(Duration::from_secs(900))),
            ("15min", Ok(Duration::from_secs(900))),
            ("1w", Ok(Duration::from_secs(604_800))),
            ("0s", Ok(Duration::ZERO)),
            ("s", Err(DurationError::Number)),
            ("1.2.3s", Err(DurationError::Number)),
            ("30", Err(DurationError::Unit)),
            ("-1s", Err(DurationError::Unit)),
            ("", Err(DurationError::Unit)),
            ("99999999999999999999d", Err(DurationError::TooLong)),
        ] {
            assert_eq!(parse(text), parsed, "{text}");
        }
        assert!(parse_positive("0ms").is_err());
    }
}
