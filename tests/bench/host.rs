//! The host's side of the bench: starts a server through a candidate and measures the candidate process.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The program between the host and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Candidate {
    Direct,
    Copies,
    Spantap,
}

impl Candidate {
    pub const ALL: [Candidate; 3] = [Candidate::Direct, Candidate::Copies, Candidate::Spantap];
}

/// Returns the program that is measured: that of `SPANTAP`, or the one that cargo has built.
pub fn spantap() -> PathBuf {
    std::env::var_os("SPANTAP").unwrap_or_else(|| env!("CARGO_BIN_EXE_spantap").into()).into()
}

/// How the host connects its child: Python and Rust hosts use pipes, Node hosts socket pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wiring {
    Pipes,
    Sockets,
}

impl Wiring {
    pub fn name(self) -> &'static str {
        match self {
            Wiring::Pipes => "pipes",
            Wiring::Sockets => "sockets",
        }
    }
}

/// A running candidate with its server.
pub struct Link {
    pub child: Child,
    pub to: Option<File>,
    pub from: File,
}

/// The folder that spantap writes to while it is measured.
pub struct Bench {
    pub logs: PathBuf,
    pub options: Vec<String>,
}

impl Bench {
    pub fn new(logs: &Path) -> Bench {
        Bench { logs: logs.to_owned(), options: Vec::new() }
    }

    pub fn with(&self, options: &[&str]) -> Bench {
        Bench { logs: self.logs.clone(), options: options.iter().map(|&option| option.to_owned()).collect() }
    }

    /// Starts `role` through `candidate`.
    pub fn start(&self, candidate: Candidate, wiring: Wiring, role: &[&str]) -> io::Result<Link> {
        let this = std::env::current_exe()?;
        let mut command = match candidate {
            Candidate::Direct => Command::new(&this),
            Candidate::Copies => {
                let mut command = Command::new(&this);
                command.arg("role:copies").arg(&this);
                command
            }
            Candidate::Spantap => {
                let mut command = Command::new(spantap());
                command.arg("--log-dir").arg(&self.logs).args(["--server", "bench"]).args(&self.options);
                command.arg("--").arg(&this);
                command
            }
        };
        command.args(role).env("XDG_CONFIG_HOME", &self.logs).env("XDG_STATE_HOME", &self.logs);
        match wiring {
            Wiring::Pipes => Link::piped(&mut command),
            Wiring::Sockets => {
                let (to, stdin) = UnixStream::pair()?;
                let (from, stdout) = UnixStream::pair()?;
                let child = command.stdin(OwnedFd::from(stdin)).stdout(OwnedFd::from(stdout)).spawn()?;
                Ok(Link {
                    child,
                    to: Some(File::from(OwnedFd::from(to))),
                    from: File::from(OwnedFd::from(from)),
                })
            }
        }
    }
}

impl Link {
    /// Starts `command`, with pipes as its standard input and output.
    pub fn piped(command: &mut Command) -> io::Result<Link> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let to = child.stdin.take().map(|stdin| File::from(OwnedFd::from(stdin)));
        let from = child.stdout.take().map(|stdout| File::from(OwnedFd::from(stdout)));
        Ok(Link { child, to, from: from.ok_or_else(|| io::Error::other("no pipe"))? })
    }

    /// Returns the end of the client's stream, for a writer thread.
    pub fn writer(&self) -> io::Result<File> {
        self.to.as_ref().ok_or_else(|| io::Error::other("closed"))?.try_clone()
    }

    /// Closes the server's stdin and waits for the candidate.
    ///
    /// # Errors
    /// If the server found a changed byte, or the candidate failed.
    pub fn finish(mut self) -> io::Result<()> {
        drop(self.to.take());
        let mut rest = Vec::new();
        self.from.read_to_end(&mut rest)?;
        let status = self.child.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("the candidate ended with {status}")))
        }
    }

    /// Returns the CPU time of all threads of the candidate so far, without the server, in seconds.
    pub fn cpu(&self) -> f64 {
        let tasks = format!("/proc/{}/task", self.child.id());
        let nanos: u64 = std::fs::read_dir(tasks)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
            .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
            .sum();
        nanos as f64 / 1e9
    }

    /// Returns a field of the candidate's `/proc/PID/status`, such as `VmHWM`, in MiB.
    pub fn memory(&self, field: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
        let kib: f64 = line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
        kib / 1024.0
    }
}

/// Returns nanoseconds of the steady clock, which are comparable between processes.
pub fn clock() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the clock to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
