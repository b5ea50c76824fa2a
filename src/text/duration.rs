//! Parses durations as users write them: `250ms`, `1.5h`, `7d`.

use std::time::Duration;

/// Parses `250ms`, `30s`, `15m` or `15min`, `2h`, `7d`, `1w`; the number may have decimals.
pub(crate) fn parse(text: &str) -> Result<Duration, &'static str> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        "w" => 604_800.0,
        _ => return Err("expected a number and ms, s, m, h, d or w, for example 30s"),
    };
    let number: f64 = number.parse().map_err(|_| "expected a number first, for example 30s")?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| "too long")
}

pub(crate) fn parse_positive(text: &str) -> Result<Duration, &'static str> {
    match parse(text) {
        Ok(Duration::ZERO) => Err("expected a duration of more than 0"),
        parsed => parsed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        let no_number = Err("expected a number first, for example 30s");
        let no_unit = Err("expected a number and ms, s, m, h, d or w, for example 30s");
        for (text, parsed) in [
            ("250ms", Ok(Duration::from_millis(250))),
            ("1.5h", Ok(Duration::from_secs(5_400))),
            ("15m", Ok(Duration::from_secs(900))),
            ("15min", Ok(Duration::from_secs(900))),
            ("1w", Ok(Duration::from_secs(604_800))),
            ("0s", Ok(Duration::ZERO)),
            ("s", no_number),
            ("1.2.3s", no_number),
            ("30", no_unit),
            ("-1s", no_unit),
            ("", no_unit),
            ("99999999999999999999d", Err("too long")),
        ] {
            assert_eq!(parse(text), parsed, "{text}");
        }
        assert!(parse_positive("0ms").is_err());
    }
}
