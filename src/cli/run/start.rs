//! From what was typed to a running proxy. What the server does not need happens after it was started,
//! on the observer's thread.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::cli::Hinted;
use crate::cli::run::{LogLevel, Overload, RunArgs};
use crate::export::log::{self, Log};
use crate::export::otlp::Otlp;
use crate::export::otlp::sampler::Sampler;
use crate::export::otlp::settings::{OtlpSettings, OtlpTable};
use crate::export::{Exporter, Output};
use crate::observe::canonical::HashKey;
use crate::observe::event::{SessionStarted, Span};
use crate::observe::redact::{Field, Redactor};
use crate::observe::traceparent::{SpanId, TraceFlags, TraceId, TraceParent};
use crate::observe::{Debug, Denials, Observer, ObserverSettings};
use crate::proxy::{self, Started, Watch};
use crate::proxy::{diagnostics, identity};
use crate::record::cost::Prices;
use crate::record::timestamp::Timestamp;
use crate::record::words::SessionSource;
use crate::record::{Anchor, Identity};
use crate::relay;
use crate::relay::pump::WhenFull;
use crate::settings::{self, ArgsHash, Config, process_environment};
use crate::settings::{hash_key, paths};
use crate::system::process::{self, TraceEnv};
use crate::system::thread;
use crate::text::hex;

/// How long we may outlive the server: hosts follow the end of stdin with SIGTERM after two seconds.
const FLUSH_BUDGET: Duration = Duration::from_millis(1500);

/// How much longer with `--overload=wait`, if something is still to be observed. Whoever wants to go before
/// sends a signal.
const GRACE: Duration = Duration::from_secs(60);

pub(super) fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let command = args.server_command.command.clone();
    let path = settings::file_path(&args, &process_environment, paths::config_dir().as_deref());
    let early = Early::read(path.as_deref());
    let samples = args.otlp_set.iter().any(|entry| entry.starts_with("sampler"));
    let mut prepared =
        (args.strict || samples || early.needs_all).then(|| prepare(&args, &command, path.clone()));
    if let Some(prepared) = &mut prepared
        && prepared.config.strict.value
    {
        prepared.check()?;
    }
    let settled = prepared.as_ref().map(|prepared| &prepared.config);
    let untouched = args.no_trace_env
        || process_environment("SPANTAP_TRACE_ENV").is_some_and(|text| text == "false")
        || settled.is_some_and(|config| !config.trace_env.value);
    let connection = Connection::new(sampler(settled.map(|config| &config.otlp)));
    let trace_env = if untouched { TraceEnv::Untouched } else { connection.trace_env() };
    let overload = settled.map(|config| config.overload.value).or(args.overload);
    let (when_full, grace) = match overload {
        Some(Overload::Wait) => (WhenFull::Wait, GRACE),
        Some(Overload::Lose) | None => (WhenFull::Lose, Duration::ZERO),
    };
    let config_file = args.config.clone();
    let name = move |command: &[OsString]| {
        let words = crate::cli::redactor(config_file.as_deref(), command).redact_argv(command);
        words.iter().map(|word| word.as_str()).collect::<Vec<_>>().join(" ")
    };
    let words = command.clone();
    let watch = move |started: &Started| {
        let prepared = prepared.unwrap_or_else(|| prepare(&args, &words, path));
        prepared.watch(started, connection, &words)
    };
    let mut relay = relay::RelayOptions { when_full, ..relay::RelayOptions::default() };
    if let Some(grace) = test_limit("SPANTAP_TEST_ORPHAN_GRACE") {
        relay.orphan_grace = grace;
    }
    let flush_budget = test_limit("SPANTAP_TEST_FLUSH_BUDGET").unwrap_or(FLUSH_BUDGET);
    proxy::run(
        &command,
        proxy::Setup { trace_env, relay, flush_budget, grace, name: Box::new(name), watch: Box::new(watch) },
    )
}

/// In builds with debug assertions the two time limits that belong to the end can be set in milliseconds:
/// how long an orphaned server is given, and how long we may outlive the server, which a test on a busy
/// machine must not depend on.
fn test_limit(name: &str) -> Option<Duration> {
    if !cfg!(debug_assertions) {
        return None;
    }
    process_environment(name)?.parse().ok().map(Duration::from_millis)
}

/// Decides about traces that begin here.
fn sampler(table: Option<&OtlpTable>) -> Sampler {
    let default = OtlpTable::default();
    OtlpSettings::resolve_sampler(table.unwrap_or(&default), &process_environment)
}

/// What the start has to know of the config file before the server runs.
struct Early {
    /// One of the settings that the start itself depends on may be there.
    needs_all: bool,
}

impl Early {
    /// Looks for the names of those settings; reading the file in full would delay every server for the
    /// sake of what hardly anybody sets.
    fn read(path: Option<&Path>) -> Early {
        const NAMES: [&str; 4] = ["strict", "trace_env", "overload", "sampler"];
        let text = path.and_then(|path| settings::read_file(path).ok()).unwrap_or_default();
        let in_file = |name: &&str| memchr::memmem::find(&text, name.as_bytes()).is_some();
        let in_environment = ["SPANTAP_STRICT", "SPANTAP_OVERLOAD"];
        let set = in_environment.iter().any(|name| process_environment(name).is_some());
        Early { needs_all: set || NAMES.iter().any(in_file) }
    }
}

/// Settings, and who this connection is.
struct Prepared {
    config: Config,
    identity: Identity,
    session_source: SessionSource,
    redactor: Redactor,
    file_error: Option<String>,
    verbose: u8,
    /// The log, where it has been opened already.
    opened: Option<Log>,
}

fn prepare(args: &RunArgs, command: &[OsString], path: Option<PathBuf>) -> Prepared {
    let name = args.server.clone().or_else(|| process_environment("SPANTAP_SERVER"));
    let name = name.unwrap_or_else(|| crate::settings::server_name::server_name(command));
    let (file, file_error) = match settings::read(path.as_deref(), args, &process_environment) {
        Ok(file) => (file, None),
        Err(error) => {
            let path = path.map(|path| path.display().to_string()).unwrap_or_default();
            (None, Some(format!("config file `{path}` cannot be read: {error}")))
        }
    };
    let mut config = match &file_error {
        None => Config::resolve(args, &process_environment, file.as_ref(), &name),
        Some(_) => Config::without_file(args, &process_environment, &name),
    };
    let names = process::environment_names().into_iter().filter_map(|name| name.into_string().ok());
    config.problems.extend(settings::misspelt(names));
    let mut redactor = config.redaction.redactor();
    let configured = config.session_id.value.clone().map(|id| match config.session_id.origin {
        settings::Origin::Environment(_) => (id, SessionSource::Environment),
        _ => (id, SessionSource::Flag),
    });
    let session = identity::session_id(configured, &process_environment, process::parent());
    let mut clean = |field, text: &str| redactor.redact(field, text.as_bytes()).as_str().to_owned();
    let identity = Identity {
        connection_id: identity::connection_id(),
        session_id: clean(Field::Id, &session.id),
        server_name: clean(Field::Name, &name),
        user_id: config.user_id.value.as_deref().map(|user| clean(Field::UserId, user)),
    };
    Prepared {
        config,
        identity,
        session_source: session.source,
        redactor,
        file_error,
        verbose: args.verbose,
        opened: None,
    }
}

impl Prepared {
    fn log(&self) -> Option<Log> {
        if !self.config.log.value {
            return None;
        }
        let folder = self.config.log_dir.value.clone().or_else(paths::sessions_dir);
        let Some(folder) = folder else {
            tracing::warn!("no log: there is no home folder; name one with --log-dir");
            return None;
        };
        let settings = log::Settings {
            folder,
            max_size: self.config.max_log_size.value,
            max_total_size: self.config.max_total_size.value,
        };
        let log = Log::new(settings, &self.identity, |line| tracing::warn!("{line}"));
        match self.config.overload.value {
            Overload::Lose => Some(log.with_thread(thread::lower_priority)),
            // The traffic waits for it.
            Overload::Wait => Some(log.patient()),
        }
    }

    /// The way to a collector, if somebody asked for one.
    fn otlp(&self) -> (Option<Otlp>, Vec<String>) {
        let (settings, warnings) = self.config.otlp(&process_environment);
        let side = self.config.side.value;
        let prices = Prices::new(self.config.usd_per_million_tokens.value, &self.config.cost_per_call);
        let otlp = settings.map(|settings| {
            let otlp = Otlp::new(settings, &self.identity, side, prices, |line| tracing::warn!("{line}"));
            otlp.with_thread(thread::lower_priority)
        });
        (otlp, warnings)
    }

    /// With `--strict`, everything that would otherwise be one warning and a session without a log.
    fn check(&mut self) -> anyhow::Result<()> {
        let refuse = |text: String, hint: &str| {
            Err(Hinted { error: anyhow::anyhow!(text), hint: hint.to_owned(), status: 125 }.into())
        };
        if let Some(error) = &self.file_error {
            return refuse(error.clone(), "mend the file or leave --strict out");
        }
        if let Some(problem) = self.config.problems.first() {
            return refuse(problem.to_string(), "mend the setting or leave --strict out");
        }
        let (otlp, warnings) = self.otlp();
        if let Some(warning) = warnings.first() {
            return refuse(warning.clone(), "mend the variable or leave --strict out");
        }
        if let Some(Err(error)) = otlp.as_ref().map(Otlp::check) {
            return refuse(
                format!("export cannot be set up: {error:#}"),
                "mend the setting or leave --strict out",
            );
        }
        self.opened = self.log();
        if let Some(log) = &self.opened
            && let Err(error) = log.open_now()
        {
            return refuse(
                format!("the session log cannot be written: {error}"),
                "name another folder with --log-dir",
            );
        }
        Ok(())
    }

    /// The observer and its sinks, for a server that runs (or could not be started).
    fn watch(mut self, started: &Started, connection: Connection, command: &[OsString]) -> Watch {
        std::panic::set_hook(Box::new(say_where));
        diagnostics::install(self.verbose, paths::state_dir().map(|dir| dir.join("diagnostics")).as_deref());
        if let Some(error) = &self.file_error {
            let how = "going on without it, and without any free text, since it may say what to hide";
            tracing::warn!("{error}; {how}");
        }
        for problem in &self.config.problems {
            tracing::warn!("{problem}");
        }
        for warning in self.config.redaction.warnings() {
            tracing::warn!("{warning}");
        }
        let hash_key = self.hash_key();
        self.redactor.set_hash_key(hash_key.clone());
        let now = crate::system::clock::now();
        let span = connection.span(&mut self.redactor);
        let mut outputs: Vec<Box<dyn Output>> = Vec::new();
        let log = self.opened.take().or_else(|| self.log());
        outputs.extend(log.map(|log| Box::new(log) as Box<dyn Output>));
        let (otlp, warnings) = self.otlp();
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        outputs.extend(otlp.map(|otlp| Box::new(otlp) as Box<dyn Output>));
        let anchor = Anchor { moment: now, wall: Timestamp::now() };
        let mut exporter = Exporter::new(self.identity.clone(), anchor, outputs);
        let conversation = identity::host_conversation(&process_environment);
        let conversation_id = conversation.map(|id| self.redactor.redact(Field::Id, id.as_bytes()));
        let session_started = SessionStarted {
            pid: std::process::id(),
            child_pid: started.pid.and_then(|pid| u32::try_from(pid).ok()),
            command: self.redactor.redact_argv(command),
            environment: self.environment_names(),
            session_source: self.session_source,
            span: span.clone(),
            hash_key_id: hash_key.id(),
            spawned: started.spawned,
        };
        let tools_file = paths::tools_file(&self.identity.server_name);
        let known_tools = tools_file.as_deref().and_then(read_tools);
        let settings = ObserverSettings {
            slow: self.config.slow.value,
            call_timeout: self.config.call_timeout.value,
            thrash_threshold: self.config.thrash_threshold.value,
            debug: self.debug(now),
            hash_key,
            connection: span,
            denials: Denials {
                codes: self.config.denied_codes.value.clone(),
                words: self.config.denied_words.value.clone(),
            },
            conversation_id,
            known_tools: known_tools.clone(),
        };
        let mut random = [0; 32];
        let _ = getrandom::fill(&mut random);
        let mut observer = Observer::new(settings, self.redactor, random);
        observer.start(session_started, started.spawned, &mut exporter);
        let remember = move |observer: &Observer| {
            if let (Some(file), Some(tools)) = (&tools_file, observer.tools())
                && known_tools.as_ref() != Some(tools)
                && let Err(error) = write_tools(file, tools)
            {
                tracing::info!("tool definitions are not remembered: {error}");
            }
        };
        Watch { observer, exporter, remember: Some(Box::new(remember)) }
    }

    fn debug(&self, now: relay::chunk::Moment) -> Debug {
        match (self.config.debug_for.value, self.config.log_level.value) {
            (Some(time), _) => {
                tracing::info!("debug records for {} s", time.as_secs());
                Debug::Until(now.after(time))
            }
            (None, LogLevel::Debug) => {
                tracing::warn!(
                    "debug records are on for good: summaries of results are in the log; --debug-for 15m ends by itself"
                );
                Debug::On
            }
            (None, LogLevel::Info) => Debug::Off,
        }
    }

    fn environment_names(&mut self) -> Vec<crate::observe::redact::Redacted> {
        use std::os::unix::ffi::OsStrExt;
        let names = process::environment_names();
        names.iter().map(|name| self.redactor.redact(Field::Name, name.as_bytes())).collect()
    }

    fn hash_key(&self) -> HashKey {
        if self.config.args_hash.value == ArgsHash::Sha256 {
            return HashKey::Unkeyed;
        }
        let configured = self.config.hash_key_file.value.as_deref();
        let key = match (configured, paths::state_dir()) {
            (Some(file), _) => hash_key::from_file(file),
            (None, Some(state)) => hash_key::of_installation(&state),
            (None, None) => hash_key::for_this_process(),
        };
        let key = key.or_else(|error| {
            tracing::warn!("{error}; hashes of this session compare with no other session's");
            hash_key::for_this_process()
        });
        match key {
            Ok(key) => HashKey::Keyed(key.bytes),
            // Without random bytes from the system a fixed key would be a lie; a hash of time and pid
            // at least differs from process to process.
            Err(_) => {
                use sha2::Digest;
                let seed = format!("{} {}", std::process::id(), Timestamp::now());
                HashKey::Keyed(sha2::Sha256::digest(seed).into())
            }
        }
    }
}

/// The connection span and what it continues.
struct Connection {
    trace_id: TraceId,
    span_id: SpanId,
    parent: Option<TraceParent>,
    trace_state: Option<OsString>,
    flags: TraceFlags,
}

impl Connection {
    /// A valid `TRACEPARENT` in our environment is the parent; else a new trace begins, and a stale
    /// `TRACESTATE` is dropped with it (W3C Trace Context §3.3).
    fn new(sampler: Sampler) -> Connection {
        let parent = process_environment("TRACEPARENT").and_then(|text| TraceParent::parse(&text));
        let trace_state =
            parent.and_then(|_| std::env::var_os("TRACESTATE")).filter(|state| !state.is_empty());
        let trace_id = parent.map_or_else(|| random(TraceId::new), |parent| parent.trace_id);
        let flags = match parent {
            Some(parent) if sampler.parent_based => parent.flags,
            Some(parent) => parent.flags.with_sampled(sampler.samples(trace_id.bytes())),
            None => TraceFlags::new_trace(sampler.samples(trace_id.bytes())),
        };
        Connection { trace_id, span_id: random(SpanId::new), parent, trace_state, flags }
    }

    fn trace_env(&self) -> TraceEnv {
        let own = TraceParent { trace_id: self.trace_id, parent_id: self.span_id, flags: self.flags };
        TraceEnv::Set { traceparent: own.to_string(), tracestate: self.trace_state.clone() }
    }

    fn span(&self, redactor: &mut Redactor) -> Span {
        let state = self.trace_state.as_ref().map(|state| state.as_encoded_bytes());
        Span {
            trace_id: self.trace_id,
            span_id: self.span_id,
            parent_span_id: self.parent.map(|parent| parent.parent_id),
            linked: None,
            trace_state: state.map(|state| redactor.redact(Field::TraceState, state)),
            flags: self.flags,
        }
    }
}

/// Random bytes until they make a valid id.
fn random<const N: usize, T>(make: impl Fn([u8; N]) -> Option<T>) -> T {
    let mut bytes = [0; N];
    loop {
        if getrandom::fill(&mut bytes).is_err() {
            // No source of randomness: the clock and the process are all there is.
            let seed = crate::system::clock::now().0 ^ u64::from(std::process::id()) << 32;
            bytes.iter_mut().zip(seed.to_ne_bytes().iter().cycle()).for_each(|(to, from)| *to = *from | 1);
        }
        if let Some(value) = make(bytes) {
            return value;
        }
    }
}

/// A panic of ours is told by its place; its message may quote what was being looked at.
fn say_where(info: &std::panic::PanicHookInfo<'_>) {
    let place =
        info.location().map(|place| format!(" at {}:{}", place.file(), place.line())).unwrap_or_default();
    crate::system::stdio::say(&format!("internal error{place}"));
}

type Tools = BTreeMap<String, [u8; 32]>;

fn read_tools(file: &Path) -> Option<Tools> {
    let text = std::fs::read(file).ok()?;
    let hex: BTreeMap<String, String> = serde_json::from_slice(&text).ok()?;
    let decode = |hex: String| {
        let byte = |at: usize| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok();
        (0..32).map(byte).collect::<Option<Vec<u8>>>()?.try_into().ok()
    };
    hex.into_iter().map(|(name, hash)| Some((name, decode(hash)?))).collect()
}

/// Replaces the file as a whole, so that servers that start together do not mix their lines.
fn write_tools(file: &Path, tools: &Tools) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let folder = file.parent().ok_or_else(|| anyhow::anyhow!("no folder"))?;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let map: BTreeMap<&str, String> =
        tools.iter().map(|(name, hash)| (name.as_str(), hex::text(hash))).collect();
    let temporary = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer(&temporary, &map)?;
    temporary.persist(file)?;
    Ok(())
}
