//! Memory and CPU time of the server process, from `/proc`.

use std::time::Duration;

/// Resident memory in bytes and CPU time (user and system) of process `pid`, where the system tells.
pub(super) fn read(pid: i32) -> Option<(u64, Duration)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse(&stat)
}

/// Fields 14, 15 and 24 of proc_pid_stat(5), counted behind the command's closing parenthesis, which
/// may itself hold blanks and parentheses.
fn parse(stat: &str) -> Option<(u64, Duration)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    let (user, system) = (next()?, next()?);
    let rss = fields.nth(8)?.parse::<u64>().ok()?;
    let (page, ticks) = (rustix::param::page_size() as u64, rustix::param::clock_ticks_per_second());
    Some((rss * page, Duration::from_millis((user + system) * 1000 / ticks)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 90 0 0 0 12 34 0 0 20 0 1 0 100 2000000 500 184467";
        assert_eq!(parse(stat), Some((500 * rustix::param::page_size() as u64, Duration::from_millis(460))));
    }
}
