//! Numbers and times in the form in which a person reads them.

use jiff::tz::TimeZone;

use crate::record::timestamp::Timestamp;

/// Returns `0.4 ms`, `84 ms`, `1.24 s`, `12.4 s`, `3 min 20 s`, `2 h 05 min`, `3 d 04 h`.
pub(crate) fn duration(ms: f64) -> String {
    let seconds = ms / 1000.0;
    let whole = seconds.round() as u64;
    match ms {
        _ if !ms.is_finite() || ms < 0.0 => "?".to_owned(),
        _ if ms == 0.0 => "0 ms".to_owned(),
        _ if ms < 0.05 => "<0.1 ms".to_owned(),
        _ if ms < 9.95 => format!("{ms:.1} ms"),
        _ if ms < 999.5 => format!("{ms:.0} ms"),
        _ if ms < 9_995.0 => format!("{seconds:.2} s"),
        _ if ms < 59_950.0 => format!("{seconds:.1} s"),
        _ if whole < 3_600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ if whole < 86_400 => format!("{} h {:02} min", whole / 3_600, whole / 60 % 60),
        _ => format!("{} d {:02} h", whole / 86_400, whole / 3_600 % 24),
    }
}

/// Returns a time in its largest unit: `45 s`, `2 min`, `3 h`, `4 d`.
pub(crate) fn age(ms: f64) -> String {
    let seconds = (ms.max(0.0) / 1000.0) as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Returns `640 B`, `1.2 kB`, `18 kB`, `3.1 MB`: units are powers of ten.
pub(crate) fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        _ => scaled(count, &["kB", "MB", "GB", "TB", "PB", "EB"], " "),
    }
}

/// Returns `940`, `1.2k`, `88k`, `3.1M`.
pub(crate) fn count(count: u64) -> String {
    match count {
        0..1_000 => count.to_string(),
        _ => scaled(count, &["k", "M", "G", "T", "P", "E"], ""),
    }
}

fn scaled(count: u64, units: &[&str], gap: &str) -> String {
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = usize::from(value < 9.95);
    format!("{value:.decimals$}{gap}{}", units[unit])
}

/// Returns `7.5` for 0.075. Only a share of exactly 0 is `0`.
pub(crate) fn percent(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0".to_owned(),
        percent if percent < 0.05 => "<0.1".to_owned(),
        percent if percent > 99.95 && share < 1.0 => ">99.9".to_owned(),
        percent if percent >= 99.95 => "100".to_owned(),
        percent => format!("{percent:.1}"),
    }
}

/// Returns US dollars: `$12.40`, `$0.031`, `<$0.001`.
pub(crate) fn usd(amount: f64) -> String {
    match amount {
        0.0 => "$0".to_owned(),
        _ if amount < 0.001 => "<$0.001".to_owned(),
        _ if amount < 0.995 => format!("${amount:.3}"),
        _ => format!("${amount:.2}"),
    }
}

/// Returns one block for each number, as high as its share of the greatest: `▁▃█`.
pub(crate) fn sparkline(numbers: &[u64]) -> String {
    let blocks: Vec<char> = "▁▂▃▄▅▆▇█".chars().collect();
    let most = numbers.iter().copied().max().unwrap_or(0).max(1) as f64;
    let block = |number: &u64| match number {
        0 => ' ',
        number => blocks[((*number as f64 / most * 8.0).ceil() as usize).clamp(1, 8) - 1],
    };
    numbers.iter().map(block).collect()
}

/// Returns `1 call`, `2 calls`.
pub(crate) fn plural(count: u64, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// Returns a time span: the day once if both ends are on it, seconds only if the span is shorter than an hour. A span
/// without an end goes on.
pub(crate) fn span(first: Timestamp, last: Option<Timestamp>, zone: &TimeZone, dash: &str) -> String {
    const HOUR_US: i64 = 3_600_000_000;
    let Some(last) = last else {
        return format!("{} {dash} now", first.local(zone, "%Y-%m-%d %H:%M:%S"));
    };
    let day = |at: Timestamp| at.local(zone, "%Y-%m-%d");
    let clock = if last.0.saturating_sub(first.0) < HOUR_US { "%H:%M:%S" } else { "%H:%M" };
    let end = last.local(zone, clock);
    let end = if day(first) == day(last) { end } else { format!("{} {end}", day(last)) };
    format!("{} {} {dash} {end}", day(first), first.local(zone, clock))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_at_most_and_a_unit() {
        for (ms, text) in [
            (0.0, "0 ms"),
            (0.004, "<0.1 ms"),
            (0.42, "0.4 ms"),
            (84.2, "84 ms"),
            (999.4, "999 ms"),
            (999.6, "1.00 s"),
            (1240.0, "1.24 s"),
            (59_949.0, "59.9 s"),
            (59_960.0, "1 min 00 s"),
            (7_500_000.0, "2 h 05 min"),
            (f64::NAN, "?"),
        ] {
            assert_eq!(duration(ms), text);
        }
        assert_eq!(
            [bytes(999), bytes(1_200), bytes(18_400), bytes(999_600)],
            ["999 B", "1.2 kB", "18 kB", "1.0 MB"]
        );
        assert_eq!([count(88_123), count(3_100_000)], ["88k", "3.1M"]);
        assert_eq!(
            [percent(0.0), percent(0.0001), percent(0.075), percent(0.9999), percent(1.0)],
            ["0", "<0.1", "7.5", ">99.9", "100"]
        );
    }

    #[test]
    fn a_sparkline_is_blank_only_where_there_is_nothing() {
        assert_eq!(sparkline(&[0, 1, 500, 1_000]), " ▁▄█");
        assert_eq!(sparkline(&[]), "");
    }

    #[test]
    fn a_span_has_the_day_once_and_seconds_where_they_matter() {
        let at = |text: &str| text.parse().unwrap();
        for (first, last, expected) in [
            ("2026-11-25T18:05:15Z", "2026-11-25T18:05:40Z", "2026-11-25 18:05:15 - 18:05:40"),
            ("2026-11-25T08:05:15Z", "2026-11-25T18:05:40Z", "2026-11-25 08:05 - 18:05"),
            ("2026-11-25T23:59:00Z", "2026-11-26T00:01:00Z", "2026-11-25 23:59:00 - 2026-11-26 00:01:00"),
        ] {
            assert_eq!(span(at(first), Some(at(last)), &TimeZone::UTC, "-"), expected);
        }
    }
}
