//! The roles of the bench's executable as a server and as the plain relay.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use crate::wire;

/// Plays the role named by the first argument, if it names one, and ends the process.
pub fn play() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(role) = arguments.first().and_then(|first| first.strip_prefix("role:")) else { return };
    let number = |index: usize| arguments.get(index).and_then(|text| text.parse().ok()).unwrap_or(0);
    let played = match role {
        "echo" => echo(number(1) as usize, number(2) as usize, |line, out| {
            out.clear();
            out.extend_from_slice(line);
        }),
        "echo-context" => echo(number(1) as usize, number(2) as usize, wire::without_context),
        "sink" => sink(number(1), number(2) as usize),
        "source" => source(number(1), number(2) as usize),
        "line" => one_line(number(1)),
        "hello" => hello(),
        "copies" => copies(&arguments[1..]),
        "spin" => spin(),
        _ => Err(io::Error::other(format!("no role `{role}`"))),
    };
    std::process::exit(match played {
        Ok(()) => 0,
        Err(_) => 9,
    });
}

fn stdin() -> File {
    File::from(io::stdin().as_fd().try_clone_to_owned().expect("the bench has a standard input"))
}

fn stdout() -> File {
    File::from(io::stdout().as_fd().try_clone_to_owned().expect("the bench has a standard output"))
}

/// Keeps a core busy until its standard input ends.
fn spin() -> io::Result<()> {
    std::thread::spawn(|| {
        loop {
            std::hint::spin_loop();
        }
    });
    stdin().read(&mut [0]).map(drop)
}

/// Checks each request of `request_size` bytes and answers with `response_size` bytes, once for each chunk.
/// `plain` copies a line as the client wrote it.
fn echo(request_size: usize, response_size: usize, plain: impl Fn(&[u8], &mut Vec<u8>)) -> io::Result<()> {
    let (mut input, mut output) = (stdin(), stdout());
    let answers = std::cell::RefCell::new(Vec::with_capacity(1 << 16));
    let (mut received, mut expected) = (Vec::new(), Vec::new());
    let mut intact = true;
    let mut sent = Ok(());
    wire::lines(
        |buffer| input.read(buffer),
        |line| {
            let n = wire::id(line);
            expected.clear();
            wire::request(n, request_size, &mut expected);
            plain(line, &mut received);
            intact &= received == expected;
            let mut answers = answers.borrow_mut();
            wire::response(n, response_size, &mut answers);
            answers.push(b'\n');
            intact
        },
        || {
            let mut answers = answers.borrow_mut();
            if sent.is_ok() {
                sent = output.write_all(&answers);
            }
            answers.clear();
        },
    )?;
    sent?;
    if intact { Ok(()) } else { Err(io::Error::other("a request was changed")) }
}

/// Reads `count` notifications of `size` bytes, checks them, and reports the result.
fn sink(count: u64, size: usize) -> io::Result<()> {
    let (mut input, mut output) = (stdin(), stdout());
    check(&mut input, count, size)?;
    output.write_all(b"done\n")
}

/// Reads and checks exactly `count` notifications of `size` bytes.
///
/// # Errors
/// If the stream ends early or a byte differs.
pub fn check(input: &mut impl Read, count: u64, size: usize) -> io::Result<()> {
    let mut seen = 0;
    let mut intact = true;
    let mut expected = Vec::new();
    let mut letter_of = u64::MAX;
    wire::lines(
        |buffer| input.read(buffer),
        |line| {
            // The messages of numbers n and n + 26 differ only in their digits. Only small messages are made
            // for every number, because making a large one costs more than the relay.
            if size <= 4096 || seen % 26 != letter_of {
                expected.clear();
                wire::notification(seen, size, &mut expected);
                letter_of = seen % 26;
                intact &= line == expected;
            } else {
                intact &= line.len() == expected.len();
            }
            seen += 1;
            intact && seen < count
        },
        || {},
    )?;
    if intact && seen == count { Ok(()) } else { Err(io::Error::other("a frame was changed or lost")) }
}

/// Waits for a line, then writes `count` notifications of `size` bytes.
fn source(count: u64, size: usize) -> io::Result<()> {
    stdin().read_exact(&mut [0])?;
    pour(&mut stdout(), count, size, None)
}

/// Writes `count` notifications of `size` bytes, in writes of about 64 KiB, at most `rate` bytes a second.
pub fn pour(output: &mut impl Write, count: u64, size: usize, rate: Option<f64>) -> io::Result<()> {
    let start = std::time::Instant::now();
    let mut buffer = Vec::with_capacity((1 << 16) + size);
    let mut sent = 0.0;
    for n in 0..count {
        wire::notification(n, size, &mut buffer);
        buffer.push(b'\n');
        if buffer.len() >= 1 << 16 || n + 1 == count {
            output.write_all(&buffer)?;
            sent += buffer.len() as f64;
            buffer.clear();
            if let Some(rate) = rate {
                let due = std::time::Duration::from_secs_f64(sent / rate);
                std::thread::sleep(due.saturating_sub(start.elapsed()));
            }
        }
    }
    Ok(())
}

/// Waits for a line, then writes one notification of `size` bytes at about 100 MB/s.
fn one_line(size: u64) -> io::Result<()> {
    stdin().read_exact(&mut [0])?;
    let mut output = stdout();
    output.write_all(br#"{"jsonrpc":"2.0","id":0,"result":{"content":[{"type":"text","text":""#)?;
    let start = std::time::Instant::now();
    let block = vec![b'x'; 1 << 16];
    for sent in (0..size).step_by(block.len()) {
        output.write_all(&block)?;
        let due = std::time::Duration::from_secs_f64(sent as f64 / 100e6);
        std::thread::sleep(due.saturating_sub(start.elapsed()));
    }
    output.write_all(b"\"}]}}\n")?;
    stdin().read_exact(&mut [0])
}

/// Reports its start, and its end when its input has ended.
fn hello() -> io::Result<()> {
    let mut output = stdout();
    output.write_all(format!("{:020}\n", crate::host::clock()).as_bytes())?;
    let mut rest = Vec::new();
    stdin().read_to_end(&mut rest)?;
    output.write_all(format!("{:020}\n", crate::host::clock()).as_bytes())
}

/// The reference: a relay of two plain copies, as two `cat`s do it.
fn copies(command: &[String]) -> io::Result<()> {
    let mut child =
        Command::new(&command[0]).args(&command[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (mut to, mut from) = (child.stdin.take(), child.stdout.take());
    std::thread::spawn(move || {
        if let Some(to) = &mut to {
            let _ = copy(&mut stdin(), to);
        }
    });
    if let Some(from) = &mut from {
        copy(from, &mut stdout())?;
    }
    std::process::exit(child.wait()?.code().unwrap_or(9));
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            count => to.write_all(&buffer[..count])?,
        }
    }
}
