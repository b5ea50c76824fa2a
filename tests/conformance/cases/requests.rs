//! Requests as clients write them. A wrapper may insert trace context if it is asked to, and nothing else.

use crate::rig::{Rig, Verdict, expect};

const REQUEST: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"a":[1,{}]}}}"#;

/// Lines, and whether a request in it can get trace context.
const LINES: &[(&str, bool)] = &[
    (REQUEST, true),
    (r#"{"params" : { } , "method":"tools/list","id":"\u0061","jsonrpc":"2.0"}"#, true),
    (r#" {"jsonrpc":"2.0","id":2,"method":"initialize","params":{"_meta":{"progressToken":1}}} "#, true),
    (r#"{"jsonrpc":"2.0","id":2,"method":"m","params":{"\u005fmeta":{}}}"#, true),
    (r#"{"jsonrpc":"2.0","id":3,"method":"m","params":{"_meta":{"traceparent":"00-x"}}}"#, false),
    (r#"{"jsonrpc":"2.0","id":3,"method":"m","params":{"_meta":{"\u0074raceparent":"00-x"}}}"#, false),
    (r#"{"jsonrpc":"2.0","id":4,"method":"m","params":[{}]}"#, false),
    (r#"{"jsonrpc":"2.0","id":5,"method":"ping"}"#, false),
    (r#"{"jsonrpc":"2.0","method":"notifications/initialized","params":{}}"#, false),
    (r#"{"jsonrpc":"2.0","id":6,"result":{"method":"m","params":{}}}"#, false),
    (r#"[{"jsonrpc":"2.0","id":7,"method":"m","params":{}}]"#, false),
    (r#"{"jsonrpc":"2.0","id":8,"method":"m","params":{},"p\u0061rams":{}}"#, false),
    (r#"{"jsonrpc":"2.0","id":9,"method":"m","params":{"_meta":{},"_meta":{}}}"#, false),
    (r#"{"jsonrpc":"2.0","id":10,"method":"m","params":{}"#, false),
    (r#"{"jsonrpc":"2.0","id":11,"method":"m","params":{}} "#, true),
    ("", false),
    ("{}", false),
];

/// Whole lines, and the same lines in small pieces, of which a wrapper may pass half a line as it is.
pub fn requests(rig: &Rig) -> Verdict {
    let mut host = rig.start(&["role:echo"])?;
    for (line, can_get_context) in LINES {
        for end in ["\n", "\r\n"] {
            let line = format!("{line}{end}");
            host.say(line.as_bytes())?;
            let seen = host.line()? + "\n";
            let expected = rig.inserts_context && *can_get_context;
            let text = || format!("`{}` became `{}`", line.trim_end(), seen.trim_end());
            expect(without_context(&seen, &line) == Some(expected), &text())?;
            for size in [1, 7, line.len() / 2 + 1] {
                for piece in line.as_bytes().chunks(size) {
                    host.say(piece)?;
                }
                let seen = host.line()? + "\n";
                let is_same =
                    without_context(&seen, &line).is_some_and(|found| !found || rig.inserts_context);
                expect(is_same, &text())?;
            }
        }
    }
    host.close_stdin();
    expect(host.wait()?.code() == Some(0), "status")
}

/// Many requests in one write, and at the end half of one.
pub fn burst_of_requests(rig: &Rig) -> Verdict {
    let mut host = rig.start(&["role:echo"])?;
    let lines: String = (0..8_000).map(|_| format!("{REQUEST}\n")).collect();
    let mut to = host.to.take().ok_or("no stdin")?;
    let writer = std::thread::spawn(move || {
        use std::io::Write;
        to.write_all(lines.as_bytes()).and_then(|()| to.write_all(&REQUEST.as_bytes()[..40]))
    });
    let seen = String::from_utf8(host.read_all()?).map_err(|error| error.to_string())?;
    writer.join().map_err(|_| "panic")?.map_err(|error| error.to_string())?;
    let mut lines = seen.split('\n');
    expect(lines.next_back() == Some(&REQUEST[..40]), "the half of a line at the end was changed")?;
    let (mut count, mut with_context) = (0, 0);
    for line in lines {
        let found = without_context(line, REQUEST).ok_or_else(|| format!("a line became `{line}`"))?;
        (count, with_context) = (count + 1, with_context + u32::from(found));
    }
    expect(count == 8_000, &format!("{count} lines of 8000"))?;
    // A line that a busy machine cuts in two may pass as it is.
    let least = if rig.inserts_context { 4_000 } else { 0 };
    let right = with_context >= least && (rig.inserts_context || with_context == 0);
    expect(right, &format!("{with_context} lines with context"))?;
    expect(host.wait()?.code() == Some(0), "status")
}

/// Returns whether `seen` contains a member with trace context more than `line`; `None` if it differs otherwise.
pub fn without_context(seen: &str, line: &str) -> Option<bool> {
    if seen == line {
        return Some(false);
    }
    const START: &str = "\"traceparent\":\"00-";
    let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    for (at, _) in seen.match_indices(START) {
        let value = &seen[at + START.len()..];
        let end = at + START.len() + value.find('"')? + 1;
        let parts: Vec<&str> = seen[at + START.len()..end - 1].split('-').collect();
        if parts.iter().map(|part| part.len()).ne([32, 16, 2]) || !parts.iter().all(|part| is_hex(part)) {
            continue;
        }
        for (before, behind) in [("\"_meta\":{", "},"), ("\"_meta\":{", "}"), ("", ","), ("", "")] {
            let rest = seen[..at].strip_suffix(before).zip(seen[end..].strip_prefix(behind));
            if rest.is_some_and(|(before, behind)| line == format!("{before}{behind}")) {
                return Some(true);
            }
        }
    }
    None
}
