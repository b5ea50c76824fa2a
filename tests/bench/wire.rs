//! The messages of the bench, made from a number so that each side can check every byte.

use std::io::Write;

/// Returns a tool call, padded to `size` bytes.
pub fn request(n: u64, size: usize, out: &mut Vec<u8>) {
    padded(
        n,
        size,
        out,
        format_args!(
            r#"{{"jsonrpc":"2.0","id":{n},"method":"tools/call","params":{{"name":"e","arguments":{{"n":{n}"#
        ),
        r#"}}}"#,
    );
}

/// Returns the answer to [`request`] `n`, padded to `size` bytes.
pub fn response(n: u64, size: usize, out: &mut Vec<u8>) {
    padded(
        n,
        size,
        out,
        format_args!(
            r#"{{"jsonrpc":"2.0","id":{n},"result":{{"content":[{{"type":"text","text":"{n}"}}],"isError":false"#
        ),
        "}}",
    );
}

/// Returns a log message, which has no answer, padded to `size` bytes.
pub fn notification(n: u64, size: usize, out: &mut Vec<u8>) {
    padded(
        n,
        size,
        out,
        format_args!(
            r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"info","data":{n}"#
        ),
        "}}",
    );
}

fn padded(n: u64, size: usize, out: &mut Vec<u8>, head: std::fmt::Arguments<'_>, tail: &str) {
    const PAD: &str = r#","pad":""#;
    let start = out.len();
    let _ = out.write_fmt(head);
    let room = size.saturating_sub(out.len() - start + tail.len());
    if room > PAD.len() + 1 {
        out.extend_from_slice(PAD.as_bytes());
        let letter = b'a' + (n % 26) as u8;
        out.resize(out.len() + room - PAD.len() - 1, letter);
        out.push(b'"');
    }
    out.extend_from_slice(tail.as_bytes());
}

/// Returns the number in a request or answer: the digits after `"id":`.
pub fn id(line: &[u8]) -> u64 {
    const BEFORE: usize = br#"{"jsonrpc":"2.0","id":"#.len();
    line.get(BEFORE..)
        .unwrap_or_default()
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0, |n, digit| n * 10 + u64::from(digit - b'0'))
}

/// Removes the member that `--propagate meta` has inserted into [`request`], if it has.
pub fn without_context(line: &[u8], out: &mut Vec<u8>) {
    const START: &[u8] = br#""_meta":{"traceparent":"00-"#;
    const LENGTH: usize = br#""_meta":{"traceparent":""},"#.len() + 55;
    out.clear();
    match memchr::memmem::find(line, START) {
        Some(at) if at + LENGTH <= line.len() => {
            out.extend_from_slice(&line[..at]);
            out.extend_from_slice(&line[at + LENGTH..]);
        }
        _ => out.extend_from_slice(line),
    }
}

/// Calls `each` with every complete line of `read`, until `each` stops it or the input ends.
pub fn lines(
    mut read: impl FnMut(&mut [u8]) -> std::io::Result<usize>,
    mut each: impl FnMut(&[u8]) -> bool,
    mut after_chunk: impl FnMut(),
) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    let mut filled = 0;
    loop {
        if filled == buffer.len() {
            buffer.resize(buffer.len() * 2, 0);
        }
        let count = read(&mut buffer[filled..])?;
        if count == 0 {
            return Ok(());
        }
        let mut start = 0;
        let mut scan = filled;
        filled += count;
        while let Some(at) = buffer[scan..filled].iter().position(|byte| *byte == b'\n') {
            if !each(&buffer[start..scan + at]) {
                return Ok(());
            }
            scan += at + 1;
            start = scan;
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
        after_chunk();
    }
}
