//! Home folders, runs and sessions for tests, and logs that are validated by the schema whenever they are read.

pub mod http;
pub mod run;
#[cfg(unix)]
pub mod screen;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A deadline that only a failing test reaches.
pub const LONG: Duration = Duration::from_secs(60);

/// Gives spantap more time at its end than it takes in use, so that a test does not depend on the machine's
/// speed. Builds without debug assertions ignore it.
pub const FLUSH_BUDGET: (&str, &str) = ("SPANTAP_TEST_FLUSH_BUDGET", "60000");

pub const SPANTAP: &str = env!("CARGO_BIN_EXE_spantap");

/// Polls until `condition` holds.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Reports that this machine cannot run a test. With `CI` set it fails, since CI must run every test.
#[track_caller]
pub fn skip(reason: &str) {
    assert!(std::env::var_os("CI").is_none(), "skipped in CI: {reason}");
    // The test harness captures what macros print.
    let _ = writeln!(io::stderr(), "skipped: {reason}");
}

/// Returns true if the probe `command` succeeds. Otherwise `what` is skipped.
#[track_caller]
pub fn can_run(command: &[&str], what: &str) -> bool {
    let probe = Command::new(command[0]).args(&command[1..]).output();
    let is_allowed = probe.is_ok_and(|output| output.status.success());
    if !is_allowed {
        skip(&format!("{what}: this machine does not allow `{}`", command.join(" ")));
    }
    is_allowed
}

/// A home folder that is not shared with another test. It is removed with its last clone.
#[derive(Clone)]
pub struct Home(Arc<tempfile::TempDir>);

impl Home {
    pub fn new() -> Home {
        Home(Arc::new(tempfile::tempdir().unwrap()))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Returns the default folder of session logs.
    pub fn logs(&self) -> PathBuf {
        // Not one text: spantap prints this path with the separators of the system.
        self.path().join(".local").join("state").join("spantap").join("sessions")
    }

    /// Returns a command in an environment that does not depend on the machine.
    pub fn command(&self, program: &str) -> Command {
        let mut command = by_path(program);
        command.env_clear().env("TZ", "UTC").current_dir(self.path());
        if cfg!(unix) {
            command.env("HOME", self.path()).env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8");
        } else {
            for name in ["USERPROFILE", "APPDATA", "LOCALAPPDATA", "TEMP"] {
                command.env(name, self.path());
            }
            // Without these variables Windows has other folders, which tests/it/windows.rs tests.
            command.env("XDG_STATE_HOME", self.path().join(".local").join("state"));
            command.env("XDG_CONFIG_HOME", self.path().join(".config"));
            // Sockets and the command interpreter need the folder of the system.
            command.env("SystemRoot", r"C:\windows").env("PATH", r"C:\windows\system32;C:\windows");
        }
        command
    }

    pub fn spantap<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = self.command(SPANTAP);
        command.args(arguments);
        command
    }

    /// Starts spantap with `options` around the sample server. It takes the time that it needs at its end.
    pub fn session(&self, options: &[&str]) -> Session {
        run::Run::wrapping_sample().home(self).options(options).unhurried().start()
    }

    /// Returns all records of the default folder, in the order of files and lines.
    pub fn records(&self) -> Vec<Value> {
        logs_in(&self.logs()).iter().flat_map(|log| validate_log(log)).collect()
    }
}

/// Returns the command of a program, with its path if it is one of the system's. The standard library starts a name with
/// `fork` if the environment is new, which copies the page tables of this process, and those are large.
#[cfg(unix)]
fn by_path(program: &str) -> Command {
    use std::os::unix::process::CommandExt;

    let in_folders = ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(program));
    let Some(path) = in_folders.iter().find(|path| !program.contains('/') && path.exists()) else {
        return Command::new(program);
    };
    let mut command = Command::new(path);
    command.arg0(program);
    command
}

#[cfg(not(unix))]
fn by_path(program: &str) -> Command {
    Command::new(program)
}

/// The host's end of a connection.
pub struct Session {
    pub child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    last_id: u64,
}

impl Session {
    pub fn start(mut command: Command) -> Session {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        Session { child, input, output, last_id: 0 }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn send(&mut self, message: &Value) {
        self.write(format!("{message}\n").as_bytes()).unwrap();
    }

    /// Writes bytes, which fails once the server no longer reads.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.input.as_mut().unwrap().write_all(bytes)
    }

    /// Writes lines while it reads as many lines as `answers`.
    pub fn exchange(&mut self, bytes: &[u8], answers: usize) -> Vec<String> {
        let (input, output) = (self.input.as_mut().unwrap(), &mut self.output);
        std::thread::scope(|scope| {
            scope.spawn(|| input.write_all(bytes));
            let lines: Vec<String> = output.lines().take(answers).map(Result::unwrap).collect();
            if lines.len() < answers {
                let status = (0..200).find_map(|_| {
                    std::thread::sleep(Duration::from_millis(10));
                    self.child.try_wait().unwrap()
                });
                panic!("the server ended early ({status:?}): {lines:?}");
            }
            lines
        })
    }

    /// Reads until the server closes its output.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.output.read_to_end(&mut rest).unwrap();
        rest
    }

    pub fn close_input(&mut self) {
        self.input = None;
    }

    pub fn receive(&mut self) -> Value {
        let mut line = String::new();
        self.read_line(&mut line);
        serde_json::from_str(&line).unwrap()
    }

    /// Reads the next line as the server wrote it.
    pub fn read_line(&mut self, line: &mut String) {
        self.output.read_line(line).unwrap();
    }

    /// Sends a request and returns its answer.
    pub fn request(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let id = self.last_id;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        loop {
            let message = self.receive();
            if message["id"] == id && message.get("method").is_none() {
                return message;
            }
        }
    }

    /// Makes `count` tool calls one after the other.
    pub fn calls(&mut self, count: usize) {
        for n in 0..count {
            let answer = self.request(
                "tools/call",
                json!({"name": "search_issues", "arguments": {"query": format!("{n}")}}),
            );
            assert!(answer.get("result").is_some(), "{answer}");
        }
    }

    /// Closes standard input and waits for the end. Returns the status and the text on standard error.
    pub fn end(mut self) -> (ExitStatus, String) {
        self.close_input();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap(), said)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A test that fails must not leave a process.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that answers only `initialize`.
const HANGING: &str = r#"read first; echo '{"jsonrpc":"2.0","id":1,"result":{}}'; cat > /dev/null"#;

/// Starts server `name`, and a call of `tool` that hangs.
pub fn hang(home: &Home, name: &str, tool: &str) -> Session {
    hang_with(home, name, tool, &[])
}

/// Does the same with further options.
pub fn hang_with(home: &Home, name: &str, tool: &str, options: &[&str]) -> Session {
    let mut command = home.command(SPANTAP);
    command.args(["--server", name, "--session-id", "one"]).args(options);
    command.args(["--", "bash", "-c", HANGING]);
    let mut session = Session::start(command);
    session.request("initialize", json!({}));
    let call =
        json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool, "arguments": {}}});
    session.send(&call);
    session
}

/// Returns the session logs of a folder in the order of their names, later parts after earlier ones. A folder
/// that does not exist has no logs.
pub fn logs_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut logs: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    logs.retain(|log| !log.file_name().unwrap().to_string_lossy().ends_with(".bodies.jsonl"));
    logs.sort_by_key(|log| {
        let name = log.file_name().unwrap().to_str().unwrap().trim_end_matches(".jsonl").to_owned();
        match name.rsplit_once('.') {
            Some((stem, part)) => (stem.to_owned(), part.parse::<u32>().unwrap()),
            None => (name, 0),
        }
    });
    logs
}

static VALIDATOR: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    jsonschema::draft202012::new(&spantap::record::schema::schema()).expect("a valid schema")
});

static SARIF: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let mut schema: Value =
        serde_json::from_str(include_str!("../../fixtures/sarif/sarif-2.1.0-rtm.5.json")).unwrap();
    // A pattern there has a bracket too many, which strict readers of regular expressions refuse.
    for part in ["run", "toolComponent"] {
        let language = &mut schema["definitions"][part]["properties"]["language"];
        language.as_object_mut().unwrap().remove("pattern").unwrap();
    }
    let validator = jsonschema::draft4::new(&schema).expect("a valid schema");
    assert!(!validator.is_valid(&serde_json::json!({"version": "2.1.0", "runs": [{}]})));
    validator
});

/// Returns the results of a SARIF document, which must be valid.
#[track_caller]
pub fn validate_sarif(text: &str) -> Vec<Value> {
    let document: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let problems: Vec<String> = SARIF.iter_errors(&document).map(|it| it.to_string()).collect();
    assert!(problems.is_empty(), "{problems:?}: {text}");
    let run = &document["runs"][0];
    let results = run["results"].as_array().unwrap().clone();
    for result in &results {
        let index = result["ruleIndex"].as_u64().unwrap_or_else(|| panic!("no rule: {result}"));
        assert_eq!(run["tool"]["driver"]["rules"][index as usize]["id"], result["ruleId"]);
    }
    results
}

/// Returns the records of a log. Every line must be whole and valid by the schema.
#[track_caller]
pub fn validate_log(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{}: torn: {text}", path.display());
    text.lines().map(|line| validate_line(path, line)).collect()
}

/// Returns the records of a log that was cut short, whose last line may be torn.
#[track_caller]
pub fn validate_torn_log(path: &Path) -> Vec<Value> {
    let text = std::fs::read(path).unwrap();
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let text = std::str::from_utf8(&text[..whole]).unwrap();
    text.lines().map(|line| validate_line(path, line)).collect()
}

#[track_caller]
pub fn validate_line(path: &Path, line: &str) -> Value {
    let record: Value =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{}: {error}: {line}", path.display()));
    let errors: Vec<String> = VALIDATOR.iter_errors(&record).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{}: {errors:?}: {line}", path.display());
    record
}

pub fn events(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["event"].as_str().unwrap()).collect()
}

pub fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_owned()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

/// Opens a pseudoterminal: its master and the terminal.
#[cfg(unix)]
pub fn terminal() -> (std::os::fd::OwnedFd, std::os::fd::OwnedFd) {
    use std::os::fd::{FromRawFd, OwnedFd};
    let (mut master, mut slave) = (0, 0);
    let null = std::ptr::null_mut();
    // SAFETY: both places are valid for the two numbers, which are ours alone afterwards.
    unsafe {
        assert_eq!(libc::openpty(&mut master, &mut slave, null, null.cast(), null.cast()), 0);
        libc::fcntl(master, libc::F_SETFD, libc::FD_CLOEXEC);
        (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave))
    }
}
