//! A probe of one server: a process of its own is started, greeted in either era of the protocol, asked
//! what every server must answer, and ended as a host would end it. Live traffic is never touched.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::observe::redact::{Field, Redactor, Settings};

mod server;

use server::{Answer, Reply, Server};

/// What to ask, and how long to wait for it.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// How long each answer may take.
    pub timeout: Duration,
    pub era: Era,
}

/// Which handshake is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// `server/discover` first, and `initialize` where that is not answered (MCP 2026-07-28, dual-era
    /// clients).
    Auto,
    /// `server/discover` only: revision 2026-07-28.
    Modern,
    /// `initialize` only: revisions up to 2025-11-25.
    Legacy,
}

/// A server that works.
#[derive(Clone, Debug)]
pub struct Health {
    /// As the server calls itself, redacted.
    pub name: String,
    pub version: String,
    pub protocol: String,
    /// `modern` or `legacy`.
    pub era: &'static str,
    /// From the start of the process to the end of the handshake.
    pub handshake: Duration,
    /// The round trip of the cheapest request there is, and its method: the modern era has no `ping`.
    pub ping: Duration,
    pub ping_method: &'static str,
    /// How many tools, and how long listing all of them took; `None` where the server has no tools.
    pub tools: Option<(usize, Duration)>,
    pub end: End,
    /// Lines on stdout that are not JSON-RPC.
    pub banner_lines: usize,
    pub warnings: Vec<String>,
}

/// How the process ended once it was no longer needed, and how long that took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// `stdin_closed`, `sigterm` or `sigkill`: what it took.
    pub by: &'static str,
    pub after: Duration,
}

/// Why a server does not work. One word each, for scripts, metrics and exit statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    NotFound,
    NotExecutable,
    /// It ended, or closed its stdout, before it had answered.
    Died,
    NoAnswer,
    /// It says things on stdout that are not JSON-RPC, and nothing that is.
    Banner,
    /// It answers, but not as the protocol asks.
    ProtocolError,
}

impl Kind {
    /// All of them, so that counters can begin at 0.
    pub const ALL: [Kind; 6] =
        [Kind::NotFound, Kind::NotExecutable, Kind::Died, Kind::NoAnswer, Kind::Banner, Kind::ProtocolError];

    pub fn word(self) -> &'static str {
        match self {
            Kind::NotFound => "not_found",
            Kind::NotExecutable => "not_executable",
            Kind::Died => "died",
            Kind::NoAnswer => "no_answer",
            Kind::Banner => "banner",
            Kind::ProtocolError => "protocol_error",
        }
    }

    /// The exit status of `spantap check`; 126 and 127 as env(1), 2 stays free for usage errors.
    pub fn status(self) -> u8 {
        match self {
            Kind::Died => 1,
            Kind::NoAnswer => 3,
            Kind::ProtocolError => 4,
            Kind::Banner => 5,
            Kind::NotExecutable => 126,
            Kind::NotFound => 127,
        }
    }
}

/// A server that does not work.
#[derive(Clone, Debug)]
pub struct Failure {
    pub kind: Kind,
    /// One line, lower case; nothing the server said but redacted.
    pub text: String,
    /// The last lines of its stderr, redacted.
    pub stderr: Vec<String>,
    pub banner_lines: usize,
}

impl Failure {
    /// What to try.
    pub fn hint(&self) -> &'static str {
        match self.kind {
            Kind::NotFound => {
                "give the program's full path: hosts started from the desktop have a short PATH"
            }
            Kind::NotExecutable => "make it executable (chmod +x), or put its interpreter in front",
            Kind::Died if self.stderr.is_empty() => "run the command by hand: it says nothing on stderr",
            Kind::Died => "the last lines of its stderr, above, are where to look first",
            Kind::NoAnswer => "a server that downloads itself at first takes longer: --timeout 60s",
            Kind::Banner => "stdout is for MCP messages alone: start it in its stdio mode, and log to stderr",
            Kind::ProtocolError => "--era legacy and --era modern try one handshake alone",
        }
    }
}

/// How long `server/discover` may go unanswered before `initialize` is tried too: servers of the older
/// revisions answer with an error, or not at all.
const DISCOVER_PATIENCE: Duration = Duration::from_secs(5);
/// More pages of tools than this are a server that goes in circles.
const MAX_PAGES: usize = 100;
const MODERN: &str = "2026-07-28";
const LEGACY: &str = "2025-11-25";

impl Probe {
    /// Starts `command`, measures, and ends it. `redactor` makes one for what the server says of itself.
    ///
    /// # Errors
    /// What is wrong with the server.
    pub fn run(&self, command: &[OsString], redactor: &dyn Fn() -> Redactor) -> Result<Health, Failure> {
        match self.attempt(command, self.era, redactor) {
            // Some servers of the older revisions do not survive a first message they do not know.
            Err((Failure { kind: Kind::Died, .. }, true)) if self.era == Era::Auto => {
                self.attempt(command, Era::Legacy, redactor).map_err(|(failure, _)| failure)
            }
            outcome => outcome.map_err(|(failure, _)| failure),
        }
    }

    /// One process; a failure says whether the only greeting so far was `server/discover`.
    fn attempt(
        &self,
        command: &[OsString],
        era: Era,
        redactor: &dyn Fn() -> Redactor,
    ) -> Result<Health, (Failure, bool)> {
        let begin = Instant::now();
        let mut server = Server::start(command, redactor).map_err(|failure| (failure, false))?;
        let mut session =
            Session { server: &mut server, timeout: self.timeout, modern: true, warnings: Vec::new() };
        let mut only_discovered = era != Era::Legacy;
        let measured = session.greet(era, &mut only_discovered).and_then(|greeting| {
            let handshake = begin.elapsed();
            let (ping_method, ping) = session.ping()?;
            let tools = if greeting.has_tools { Some(session.list_tools()?) } else { None };
            Ok((greeting, handshake, ping_method, ping, tools))
        });
        let mut warnings = std::mem::take(&mut session.warnings);
        let (greeting, handshake, ping_method, ping, tools) = match measured {
            Ok(measured) => measured,
            Err(problem) => return Err((server.failure(problem), only_discovered)),
        };
        let banner_lines = server.banner_lines;
        if banner_lines > 0 {
            let noun = if banner_lines == 1 { "line on stdout is" } else { "lines on stdout are" };
            warnings.push(format!("{banner_lines} {noun} not JSON-RPC; strict hosts break off"));
        }
        let end = server.end();
        if end.by != "stdin_closed" {
            warnings.push(format!(
                "it did not end when its stdin was closed, only at {}; hosts wait two seconds for that",
                end.by.to_uppercase()
            ));
        }
        Ok(Health {
            name: greeting.name,
            version: greeting.version,
            protocol: greeting.protocol,
            era: greeting.era,
            handshake,
            ping,
            ping_method,
            tools,
            end,
            banner_lines,
            warnings,
        })
    }
}

/// What the handshake told.
struct Greeting {
    name: String,
    version: String,
    protocol: String,
    era: &'static str,
    has_tools: bool,
}

/// What went wrong, before anything is known of the process's end.
#[derive(Debug)]
struct Problem {
    kind: Kind,
    text: String,
}

fn protocol_error(text: impl Into<String>) -> Problem {
    Problem { kind: Kind::ProtocolError, text: text.into() }
}

struct Session<'a> {
    server: &'a mut Server,
    timeout: Duration,
    /// Whether requests carry the metadata of the modern era.
    modern: bool,
    warnings: Vec<String>,
}

impl Session<'_> {
    fn greet(&mut self, era: Era, only_discovered: &mut bool) -> Result<Greeting, Problem> {
        let mut discover = None;
        let mut initialize = None;
        let mut deadline = Instant::now() + self.timeout;
        let mut fall_back = None;
        if era == Era::Legacy {
            initialize = Some(self.initialize()?);
        } else {
            discover = Some(self.send("server/discover", json!({}))?);
            let patience = DISCOVER_PATIENCE.min(self.timeout / 2);
            fall_back = (era == Era::Auto).then(|| Instant::now() + patience);
        }
        loop {
            let Some(Reply { id, answer }) = self.server.reply(fall_back.unwrap_or(deadline))? else {
                if fall_back.take().is_none() {
                    let method = if initialize.is_some() { "initialize" } else { "server/discover" };
                    return Err(self.no_answer(method));
                }
                *only_discovered = false;
                initialize = Some(self.initialize()?);
                deadline = Instant::now() + self.timeout;
                continue;
            };
            if Some(id) == discover {
                match answer {
                    Answer::Result(result) if is_modern(&result) => {
                        self.modern = true;
                        return Ok(modern_greeting(&result));
                    }
                    Answer::Result(_) if era == Era::Modern => {
                        let text = format!("the answer to server/discover names no version from {MODERN} on");
                        return Err(protocol_error(text));
                    }
                    Answer::Error(code) if era == Era::Modern => {
                        return Err(refused("server/discover", code));
                    }
                    _ if initialize.is_none() => {
                        fall_back = None;
                        *only_discovered = false;
                        initialize = Some(self.initialize()?);
                        deadline = Instant::now() + self.timeout;
                    }
                    _ => {}
                }
            } else if Some(id) == initialize {
                let result = match answer {
                    Answer::Result(result) => result,
                    Answer::Error(code) => return Err(refused("initialize", code)),
                };
                if !result["protocolVersion"].is_string() || !result["capabilities"].is_object() {
                    return Err(protocol_error(
                        "the answer to initialize has no protocolVersion or no capabilities",
                    ));
                }
                self.server.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))?;
                return Ok(legacy_greeting(&result));
            }
        }
    }

    fn initialize(&mut self) -> Result<u64, Problem> {
        self.modern = false;
        let params = json!({"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": client_info()});
        self.send("initialize", params)
    }

    /// A round trip that costs the server nothing; an error is an answer too.
    fn ping(&mut self) -> Result<(&'static str, Duration), Problem> {
        let method = if self.modern { "server/discover" } else { "ping" };
        let begin = Instant::now();
        if let Answer::Error(code) = self.ask(method, json!({}))? {
            self.warnings.push(format!("it answers {method} with {}", code_text(code)));
        }
        Ok((method, begin.elapsed()))
    }

    /// Counts the tools on all pages.
    fn list_tools(&mut self) -> Result<(usize, Duration), Problem> {
        let begin = Instant::now();
        let mut count = 0;
        let mut params = json!({});
        for _ in 0..MAX_PAGES {
            let page = match self.ask("tools/list", params)? {
                Answer::Result(page) => page,
                Answer::Error(code) => return Err(refused("tools/list", code)),
            };
            let tools = page["tools"].as_array();
            count += tools.ok_or_else(|| protocol_error("the answer to tools/list has no tools"))?.len();
            match page["nextCursor"].as_str() {
                Some(cursor) => params = json!({"cursor": cursor}),
                None => return Ok((count, begin.elapsed())),
            }
        }
        Err(protocol_error(format!("tools/list has more than {MAX_PAGES} pages")))
    }

    fn ask(&mut self, method: &str, params: Value) -> Result<Answer, Problem> {
        let asked = self.send(method, params)?;
        let deadline = Instant::now() + self.timeout;
        loop {
            match self.server.reply(deadline)? {
                Some(Reply { id, answer }) if id == asked => return Ok(answer),
                Some(_) => {}
                None => return Err(self.no_answer(method)),
            }
        }
    }

    fn send(&mut self, method: &str, mut params: Value) -> Result<u64, Problem> {
        if self.modern {
            // MCP 2026-07-28, basic: each request says its version, capabilities and client.
            params["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": client_info(),
            });
        }
        self.server.request(method, params)
    }

    fn no_answer(&self, method: &str) -> Problem {
        Problem { kind: Kind::NoAnswer, text: format!("no answer to {method} within {:?}", self.timeout) }
    }
}

fn client_info() -> Value {
    json!({"name": "spantap-check", "version": env!("CARGO_PKG_VERSION")})
}

fn refused(method: &str, code: Option<i64>) -> Problem {
    protocol_error(format!("the server answered {method} with {}", code_text(code)))
}

fn code_text(code: Option<i64>) -> String {
    code.map_or_else(|| "an error without a code".to_owned(), |code| format!("error {code}"))
}

/// A name or version as the server says it, redacted; `?` where it does not.
fn said(value: &Value) -> String {
    name(value.as_str().unwrap_or("?"))
}

/// A name as it may be shown and exported.
pub fn name(text: &str) -> String {
    Redactor::new(&Settings::default()).redact(Field::Name, text.as_bytes()).as_str().to_owned()
}

/// Versions are days; a later one than ours speaks ours too, or answers with an error.
fn is_modern(result: &Value) -> bool {
    let mut versions = result["supportedVersions"].as_array().into_iter().flatten().filter_map(Value::as_str);
    versions.any(|version| version >= MODERN)
}

fn modern_greeting(result: &Value) -> Greeting {
    let info = &result["_meta"]["io.modelcontextprotocol/serverInfo"];
    let versions = result["supportedVersions"].as_array().into_iter().flatten();
    let newest = versions.filter_map(Value::as_str).max().unwrap_or("?");
    Greeting {
        name: said(&info["name"]),
        version: said(&info["version"]),
        protocol: said(&Value::from(if newest > MODERN { MODERN } else { newest })),
        era: "modern",
        has_tools: result["capabilities"]["tools"].is_object(),
    }
}

fn legacy_greeting(result: &Value) -> Greeting {
    Greeting {
        name: said(&result["serverInfo"]["name"]),
        version: said(&result["serverInfo"]["version"]),
        protocol: said(&result["protocolVersion"]),
        era: "legacy",
        has_tools: result["capabilities"]["tools"].is_object(),
    }
}
