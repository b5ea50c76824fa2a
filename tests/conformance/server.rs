//! The helper servers: one small behaviour each, named by the role.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use crate::noise::{Endless, Noise};
use crate::sys;

/// Plays `role`. Returns the exit status.
pub fn play(role: &str, arguments: &[String]) -> i32 {
    let number = |index: usize| arguments.get(index).and_then(|text| text.parse().ok()).unwrap_or(0);
    let played = match role {
        "echo" => echo(),
        "noise" => noise(number(0)),
        "exit" => return arguments.first().and_then(|code| code.parse().ok()).unwrap_or(98),
        #[cfg(unix)]
        "die" => sys::die_of(number(0) as i32),
        "half" => half(),
        "late" => late(),
        "close" => return close_and_wait(number(0) as i32),
        "closed-stdin" => closed_stdin(),
        "epipe" => epipe(),
        "flood" => flood(number(0) as i32),
        "stubborn" => stubborn(),
        #[cfg(unix)]
        "signals" => signals(),
        "describe" => describe(),
        "arguments" => arguments.iter().try_for_each(|text| writeln!(output(), "{text}")),
        "grandchild" => grandchild(),
        "daemon" => daemon(),
        "launcher" => launcher(),
        "burst" => burst(number(0)),
        "complain" => complain(),
        "party" => crate::party::play(arguments.first().map_or("", String::as_str)),
        "endless-line" => endless_line(number(0) as usize),
        "one-byte" => one_byte(),
        "stdout-then-stderr" => stdout_then_stderr(),
        #[cfg(unix)]
        "shell" => match arguments {
            [socket, ground, words @ ..] => crate::cases::shell(socket, ground, words),
            _ => Err(io::Error::other("too few words")),
        },
        "holder" => hold(arguments.first()),
        "host" => host(arguments),
        _ => Err(io::Error::other("no such role")),
    };
    match played {
        Ok(()) => 0,
        Err(_) => 98,
    }
}

fn input() -> File {
    sys::standard(0)
}

fn output() -> File {
    sys::standard(1)
}

fn errors() -> File {
    sys::standard(2)
}

/// Sends back what it reads, as it reads it.
fn echo() -> io::Result<()> {
    let (mut input, mut output) = (input(), output());
    let mut buffer = vec![0; 1 << 16];
    loop {
        match input.read(&mut buffer)? {
            0 => return Ok(()),
            count => output.write_all(&buffer[..count])?,
        }
    }
}

/// Writes noise to stdout and stderr while it checks the noise that comes in.
fn noise(seed: u64) -> io::Result<()> {
    let pour = |mut to: File, stream| std::thread::spawn(move || Noise::new(seed, stream).pour(&mut to));
    let threads = [pour(output(), 1), pour(errors(), 2)];
    Noise::new(seed, 0).check(&mut input())?;
    for thread in threads {
        thread.join().map_err(|_| io::Error::other("a writer panicked"))??;
    }
    Ok(())
}

/// Writes half a line, then nothing until it gets input.
fn half() -> io::Result<()> {
    output().write_all(b"half a line")?;
    input().read_exact(&mut [0])?;
    output().write_all(b", and its end")
}

/// Answers only after its input has ended.
fn late() -> io::Result<()> {
    let mut asked = Vec::new();
    input().read_to_end(&mut asked)?;
    output().write_all(b"late: ")?;
    output().write_all(&asked)
}

/// Closes one of its output streams, lives until it gets input, and exits with 7.
fn close_and_wait(fd: i32) -> i32 {
    sys::close(fd);
    let _ = input().read(&mut [0]);
    7
}

/// Closes its input, then writes its pid, and lives until it is killed.
fn closed_stdin() -> io::Result<()> {
    sys::close(0);
    writeln!(output(), "{}", std::process::id())?;
    loop {
        std::thread::park();
    }
}

/// Writes until the reader is gone, and reports the error on stderr.
fn epipe() -> io::Result<()> {
    sys::survive_broken_pipes();
    let mut output = output();
    loop {
        if let Err(error) = output.write_all(&[b'x'; 4096]) {
            return writeln!(errors(), "{:?}", error.kind());
        }
    }
}

/// Floods one stream and answers lines on the other.
fn flood(fd: i32) -> io::Result<()> {
    let (mut flooded, mut other) = if fd == 1 { (output(), errors()) } else { (errors(), output()) };
    std::thread::spawn(move || while flooded.write_all(&[b'f'; 4096]).is_ok() {});
    for line in BufReader::new(input()).lines() {
        writeln!(other, "{}", line?)?;
    }
    std::process::exit(0)
}

/// Writes its pid, ignores polite signals and reads nothing.
fn stubborn() -> io::Result<()> {
    sys::be_stubborn();
    writeln!(output(), "{}", std::process::id())?;
    loop {
        std::thread::park();
    }
}

/// Writes its pid and then every signal that reaches it, until its input ends.
#[cfg(unix)]
fn signals() -> io::Result<()> {
    sys::block_signals();
    let mut output = output();
    writeln!(output, "{}", std::process::id())?;
    std::thread::spawn(move || {
        loop {
            if writeln!(output, "{}", sys::next_signal()).is_err() {
                return;
            }
        }
    });
    input().read_to_end(&mut Vec::new()).map(drop)
}

/// Writes everything that a start hands down, a line each, except the trace context and what always differs.
fn describe() -> io::Result<()> {
    let mut lines = vec![format!("argv {:?}", std::env::args_os().skip(1).collect::<Vec<_>>())];
    lines.push(format!("folder {:?}", std::env::current_dir()?));
    let ours = |name: &str| name == "TRACEPARENT" || name == "TRACESTATE" || name == "_";
    for (name, value) in std::env::vars_os().filter(|(name, _)| !name.to_str().is_some_and(ours)) {
        lines.push(format!("environment {name:?}={value:?}"));
    }
    lines.extend(sys::handed_down()?);
    lines.sort();
    output().write_all(lines.join("\n").as_bytes())
}

/// Leaves a process that holds its streams, and exits with 5.
fn grandchild() -> io::Result<()> {
    let this = std::env::current_exe()?;
    let left = Command::new(this).args(["role:holder", "new-session"]).stdin(Stdio::null()).spawn()?;
    output().write_all(format!("{}\n", left.id()).as_bytes())?;
    std::process::exit(5)
}

/// Leaves a process that holds none of its streams, and exits with 5.
fn daemon() -> io::Result<()> {
    let this = std::env::current_exe()?;
    let mut command = Command::new(this);
    command.args(["role:holder", "new-session"]);
    let left = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    output().write_all(format!("{}\n", left.id()).as_bytes())?;
    std::process::exit(5)
}

/// Starts a process that holds its streams, and waits for it.
fn launcher() -> io::Result<()> {
    let mut server = Command::new(std::env::current_exe()?).arg("role:holder").spawn()?;
    output().write_all(format!("{}\n", server.id()).as_bytes())?;
    server.wait().map(drop)
}

/// Holds its descriptors for a while, in a session of its own if asked.
fn hold(session: Option<&String>) -> io::Result<()> {
    if session.is_some_and(|word| word == "new-session") {
        sys::new_session();
    }
    std::thread::sleep(std::time::Duration::from_secs(80));
    Ok(())
}

/// A host that can be killed: starts the wrapper whose command follows, writes its pid, and reads the output.
/// It floods the wrapper if its first argument is `flood`, and leaves stderr unread if the second is `deaf`.
fn host(arguments: &[String]) -> io::Result<()> {
    let [mode, ears, words @ ..] = arguments else { return Err(io::Error::other("too few words")) };
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    writeln!(output(), "{}", child.id())?;
    let (mut to, from, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    std::thread::spawn(move || io::copy(&mut from?, &mut io::sink()).ok());
    let unread = if ears == "deaf" {
        errors
    } else {
        std::thread::spawn(move || io::copy(&mut errors?, &mut io::sink()).ok());
        None
    };
    let mut noise = Endless::new(crate::party::SEED, 0);
    while let (Some(to), true) = (&mut to, mode == "flood") {
        to.write_all(noise.next(7_001))?;
    }
    let _held = (to, unread);
    loop {
        std::thread::park();
    }
}

fn burst(size: u64) -> io::Result<()> {
    Noise::new(size, 1).pour_exactly(&mut output(), size as usize)
}

/// Writes an error and exits before it reads.
fn complain() -> io::Result<()> {
    errors().write_all(b"no configuration\n")?;
    std::process::exit(3)
}

/// Writes so many bytes without a newline, then waits for the end of its input.
fn endless_line(size: usize) -> io::Result<()> {
    let mut output = output();
    let piece = vec![b'x'; 1 << 16];
    for _ in 0..size / piece.len() {
        output.write_all(&piece)?;
    }
    input().read_to_end(&mut Vec::new()).map(drop)
}

/// Reads a byte and exits with 6.
fn one_byte() -> io::Result<()> {
    input().read_exact(&mut [0])?;
    std::process::exit(6)
}

/// Writes a line to stdout and closes it. On input it writes noise to stderr.
fn stdout_then_stderr() -> io::Result<()> {
    output().write_all(b"out\n")?;
    sys::close(1);
    input().read_exact(&mut [0])?;
    Noise::new(5, 2).pour(&mut errors())
}
