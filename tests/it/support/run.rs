//! A run of spantap around a server, described step by step: `Run::wrapping("cat").send(…).expect_exit(0)`.

use std::io::Write;
use std::process::{Command, ExitStatus, Stdio};

use serde_json::{Value, json};

use super::{FLUSH_BUDGET, Home, SPANTAP, Session};

/// A run that has not started yet.
pub struct Run {
    home: Home,
    launcher: Vec<String>,
    words: Vec<String>,
    server: Vec<String>,
    environment: Vec<(String, String)>,
    input: Vec<u8>,
    stderr: Stdio,
}

impl Run {
    fn new(words: &[&str], server: &[&str]) -> Run {
        Run {
            home: Home::new(),
            launcher: Vec::new(),
            words: owned(words),
            server: owned(server),
            environment: Vec::new(),
            input: Vec::new(),
            stderr: Stdio::piped(),
        }
    }

    /// Wraps a program without arguments.
    pub fn wrapping(server: &str) -> Run {
        Run::new(&[SPANTAP], &["--", server])
    }

    /// Wraps a script for bash.
    pub fn wrapping_script(script: &str) -> Run {
        Run::new(&[SPANTAP], &["--", "bash", "-c", script])
    }

    /// Wraps a server that answers its requests with these lists of tools, one after the other.
    pub fn wrapping_lists(lists: &[&str]) -> Run {
        let answer = |(id, list): (usize, &&str)| {
            let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"tools":[{list}]}}}}"#, id + 1);
            format!("read -r line; printf '%s\\n' '{answer}'\n")
        };
        Run::wrapping_script(&(lists.iter().enumerate().map(answer).collect::<String>() + "cat"))
    }

    /// Wraps the sample server.
    pub fn wrapping_sample() -> Run {
        Run::new(&[SPANTAP], &["--", SPANTAP, "demo", "--serve"])
    }

    /// Runs a script for bash that starts `"$SPANTAP"` as it needs it.
    pub fn shell(script: &str) -> Run {
        Run::new(&["bash", "-c", script], &[]).env("SPANTAP", SPANTAP)
    }

    /// Runs in `home` instead of a new home folder.
    pub fn home(mut self, home: &Home) -> Run {
        self.home = home.clone();
        self
    }

    /// Adds options of spantap.
    pub fn options(mut self, options: &[&str]) -> Run {
        self.words.extend(owned(options));
        self
    }

    /// Starts spantap through `launcher`, a command that ends by running its last arguments.
    pub fn launched_by(mut self, launcher: &[&str]) -> Run {
        self.launcher = owned(launcher);
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Run {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn envs(self, variables: &[(&str, &str)]) -> Run {
        variables.iter().fold(self, |run, (name, value)| run.env(name, value))
    }

    /// Lets spantap take the time at its end that a busy machine needs to record everything.
    pub fn unhurried(self) -> Run {
        self.env(FLUSH_BUDGET.0, FLUSH_BUDGET.1)
    }

    /// Adds bytes to what the host writes.
    pub fn send(mut self, bytes: impl AsRef<[u8]>) -> Run {
        self.input.extend_from_slice(bytes.as_ref());
        self
    }

    /// Replaces the pipe at standard error.
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Run {
        self.stderr = stderr.into();
        self
    }

    /// The command alone, for a host with streams of its own.
    pub fn command(&self) -> Command {
        let mut words = self.launcher.iter().chain(&self.words).chain(&self.server);
        let mut command = self.home.command(words.next().unwrap());
        command.args(words);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts a session that the test holds step by step.
    pub fn start(self) -> Session {
        assert!(self.input.is_empty(), "the test sends to a started session");
        Session::start(self.command())
    }

    /// Writes the input, closes it, and waits for the end.
    pub fn end(self) -> Ended {
        let mut command = self.command();
        let Run { home, input: sent, stderr, .. } = self;
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        // The command holds our copies of the descriptors that it was given.
        drop(command);
        let mut to = child.stdin.take().unwrap();
        let output = std::thread::scope(|scope| {
            scope.spawn(|| {
                // A server need not read everything. `expect_echo` checks that it did.
                let _ = to.write_all(&sent);
                drop(to);
            });
            child.wait_with_output().unwrap()
        });
        let stderr = String::from_utf8(output.stderr).unwrap();
        Ended { home, status: output.status, stdout: output.stdout, stderr, sent }
    }

    /// Runs to the end and checks the exit status.
    #[track_caller]
    pub fn expect_exit(self, code: i32) -> Ended {
        self.end().expect_exit(code)
    }
}

/// A run that has ended.
pub struct Ended {
    pub home: Home,
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
    sent: Vec<u8>,
}

impl Ended {
    #[track_caller]
    pub fn expect_exit(self, code: i32) -> Ended {
        assert_eq!(self.status.code(), Some(code), "{}: {}", self.status, self.stderr);
        self
    }

    /// Checks that every byte that was sent came back.
    #[track_caller]
    pub fn expect_echo(self) -> Ended {
        assert!(self.stdout == self.sent, "{} bytes of {}", self.stdout.len(), self.sent.len());
        self
    }

    pub fn stdout(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    pub fn records(&self) -> Vec<Value> {
        self.home.records()
    }

    /// The record of the session's end.
    #[track_caller]
    pub fn session_ended(&self) -> Value {
        let mut records = self.records().into_iter();
        records.find(|record| record["event"] == "session_ended").expect("the session's end")
    }

    /// The sums at the session's end.
    #[track_caller]
    pub fn totals(&self) -> Value {
        self.session_ended()["totals"].clone()
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Notifications with numbers from 0 on, each a line that is `pad` bytes longer than need be.
pub fn notifications(count: u64, pad: usize) -> Vec<u8> {
    let pad = "x".repeat(pad);
    let params = |n| json!({"data": n, "pad": pad});
    lines(count, |n| json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params(n)}))
}

/// Tool calls with ids from 0 on. `cat` answers none of them and sends each back as a request of the
/// server, so that each becomes two records.
pub fn tool_calls(count: u64) -> Vec<u8> {
    let params = |n| json!({"name": "t", "arguments": {"n": n}});
    lines(count, |n| json!({"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": params(n)}))
}

fn lines(count: u64, message: impl Fn(u64) -> Value) -> Vec<u8> {
    (0..count).flat_map(|n| format!("{}\n", message(n)).into_bytes()).collect()
}

/// Bytes without any structure, the same in each run.
pub fn noise(count: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}
