//! `spantap collect`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING,
};
use http::{HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

use crate::cli::selection::note;
use crate::cli::{Out, done, exit_with, help, hint, settings};
use crate::collect::setup::{self, Sender};
use crate::collect::state::{CollectState, RunState};
use crate::collect::{
    self, CollectError, CollectOptions, ForwardSettings, LastRun, ListenAddress, ListenError, TokenHash,
};
use crate::export::log::LogSettings;
use crate::export::otlp::OtlpSettings;
use crate::present::{Printable, format};
use crate::record::cost::ModelPrices;
use crate::settings::{GivenSettings, Settings, paths, process_environment};
use crate::system::access::FileAccess;
use crate::system::files::read_limited;

/// Largest file of a token, in bytes.
const MAX_TOKEN: u64 = 64 << 10;
/// Shortest token, in bytes.
const SHORTEST_TOKEN: usize = 16;
/// The place that programs are given without `--listen`.
const USUAL_ENDPOINT: &str = "http://127.0.0.1:4318";

const STATUSES: &str =
    "Exit status: 0 it ended by a signal; 1 an error, such as a port that is taken; 2 usage.";

#[derive(Debug, Args)]
#[command(after_help = STATUSES)]
pub struct CollectArgs {
    /// Print the settings with which a program sends its telemetry here, and end
    #[arg(long, value_enum, value_name = "PROGRAM")]
    setup: Option<Sender>,
    /// Listen on this port of this machine, or on this address; repeatable [default: 4318 and 4317]
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<ListenAddress>,
    /// File with the token that clients must send; other machines can be listened for only with one
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Pass every request on to this collector as it came, prompts included if agents send them
    #[arg(long, value_name = "URL")]
    forward: Option<String>,
    /// Pass this header of requests on, or add a header with a value; repeatable
    #[arg(long, value_name = "NAME[=VALUE]", requires = "forward")]
    forward_header: Vec<String>,
    #[arg(
        long,
        value_name = "URL",
        help = format!("{}; only metrics of model calls are sent", help::of("otlp.endpoint"))
    )]
    otlp: Option<String>,
    #[arg(long, value_name = "KEY=VALUE", requires = "otlp", help = help::OTLP_SET)]
    otlp_set: Vec<String>,
    #[arg(long, value_name = "DIR", help = help::of("log_dir"))]
    log_dir: Option<PathBuf>,
    #[arg(long, value_name = "FILE", help = help::CONFIG)]
    config: Option<PathBuf>,
}

impl CollectArgs {
    pub(super) fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        if let Some(sender) = self.setup {
            let lines = setup::lines(sender, &self.endpoint(), self.token_file.is_some());
            return done(ExitCode::SUCCESS, out.write_all(lines.as_bytes()));
        }
        let options = self.options()?;
        let mut printed = Ok(());
        let ended = collect::run(options, |state, last| printed = begin(out, state, last));
        let state = ended.map_err(|error| self.explain(error))?;
        done(ExitCode::SUCCESS, printed.and_then(|()| end(out, &state)))
    }

    /// Returns the URL of the first address, for programs on this machine.
    fn endpoint(&self) -> String {
        match self.listen.first() {
            None => USUAL_ENDPOINT.to_owned(),
            Some(ListenAddress::Port(port)) => format!("http://127.0.0.1:{port}"),
            Some(ListenAddress::Address(address)) => format!("http://{address}"),
        }
    }

    fn options(&self) -> anyhow::Result<CollectOptions> {
        let given = GivenSettings {
            config: self.config.clone(),
            log_dir: self.log_dir.clone(),
            otlp_endpoint: self.otlp.clone(),
            otlp_set: self.otlp_set.clone(),
            ..GivenSettings::default()
        };
        let settings = settings(given)?;
        for problem in &settings.problems {
            note(&problem.to_string());
        }
        let token = self.token_file.as_deref().map(token).transpose()?;
        if let Some(open) = self.listen.iter().find(|address| address.is_open())
            && token.is_none()
        {
            let problem = anyhow::anyhow!("other machines can reach {open}, so clients must send a token");
            return Err(exit_with(
                2,
                problem,
                "make a file with a token, and name it with --token-file FILE",
            ));
        }
        let log = match settings.log.value {
            false => None,
            true => Some(LogSettings {
                folder: settings.log_folder().ok_or_else(|| {
                    hint(
                        anyhow::anyhow!("no folder for session logs is known"),
                        "name one with --log-dir DIR",
                    )
                })?,
                max_size: settings.max_log_size.value,
                max_total_size: settings.max_total_size.value,
            }),
        };
        Ok(CollectOptions {
            listen: self.listen.clone(),
            forward: self.forward(token.is_some())?,
            otlp: self.otlp(&settings)?,
            token,
            log,
            max_day_size: settings.max_session_size.value,
            redactor: settings.redaction.redactor(),
            prices: ModelPrices::new(&settings.cost_models),
            warn: note,
        })
    }

    /// Returns how metrics are sent. The endpoints of the config file and of the environment are those of the proxies,
    /// and may be this collector, so only the flag asks for them.
    fn otlp(&self, settings: &Settings) -> anyhow::Result<Option<OtlpSettings>> {
        if self.otlp.is_none() {
            return Ok(None);
        }
        let (otlp, warnings) = settings.otlp(&process_environment);
        warnings.iter().for_each(|warning| note(warning));
        let otlp = otlp.filter(|otlp| otlp.metrics.is_some());
        otlp.map(Some).ok_or_else(|| {
            let problem = anyhow::anyhow!("--otlp would send nothing, because metrics are turned off");
            exit_with(
                2,
                problem,
                "add --otlp-set metrics=true, or remove --otlp; OTEL_SDK_DISABLED must not be true",
            )
        })
    }

    fn forward(&self, has_token: bool) -> anyhow::Result<Option<ForwardSettings>> {
        let Some(url) = self.forward.clone() else { return Ok(None) };
        let is_http =
            |uri: &http::Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
        if !url.parse().as_ref().is_ok_and(is_http) {
            let problem = anyhow::anyhow!("--forward is not the URL of a collector");
            return Err(exit_with(2, problem, "write it as http://HOST:4318, without the path of a signal"));
        }
        let mut forward = ForwardSettings { url, names: Vec::new(), headers: Vec::new() };
        for header in &self.forward_header {
            let (name, value) =
                header.split_once('=').map_or((&**header, None), |(name, value)| (name, Some(value)));
            let own = [CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING];
            let parsed: Option<HeaderName> = name.trim().parse().ok().filter(|name| !own.contains(name));
            let is_valid = value.is_none_or(|value| HeaderValue::from_str(value).is_ok());
            let Some(name) = parsed.filter(|_| is_valid) else {
                let problem = anyhow::anyhow!("--forward-header `{name}` cannot be passed on");
                return Err(exit_with(2, problem, "write NAME, or NAME=VALUE"));
            };
            match value {
                Some(value) => forward.headers.push((name.to_string(), value.to_owned())),
                None if has_token && name == AUTHORIZATION => {
                    let problem = anyhow::anyhow!(
                        "--forward-header authorization would pass this collector's token on"
                    );
                    return Err(exit_with(2, problem, "write --forward-header authorization='Bearer TOKEN'"));
                }
                None => forward.names.push(name),
            }
        }
        Ok(Some(forward))
    }

    /// Adds the way out to an error.
    fn explain(&self, error: CollectError) -> anyhow::Error {
        match &error {
            CollectError::Listen(listen) => {
                let (problem, way_out) = explain_listen(listen);
                hint(problem, way_out)
            }
            CollectError::LeadsBack(..) => hint(error.into(), "name another collector"),
            CollectError::Unusable(..) | CollectError::System(_) => error.into(),
        }
    }
}

/// Returns what is wrong with an address, and what to do.
fn explain_listen(ListenError { address, error, owner }: &ListenError) -> (anyhow::Error, String) {
    if error.kind() != std::io::ErrorKind::AddrInUse {
        let problem = anyhow::anyhow!("cannot listen on {address}: {error}");
        return (problem, "name another port or address with --listen ADDRESS".to_owned());
    }
    let running = collect::state::read().filter(|state| state.run_state() == RunState::Running);
    let pid = owner.as_ref().map(|owner| owner.pid);
    if let Some(state) = running.filter(|state| Some(state.pid) == pid) {
        let problem =
            anyhow::anyhow!("spantap collect runs already (pid {}) and listens on {address}", state.pid);
        return (problem, "`spantap status` shows what it received".to_owned());
    }
    let by = match owner {
        Some(owner) => format!("`{}` (pid {}) listens there", owner.name, owner.pid),
        None => "another program listens there".to_owned(),
    };
    let problem = anyhow::anyhow!("{address} is taken: {by}");
    let way_out = format!(
        "if it is a collector, put spantap in front of it with these two lines, the second one for your agents:\n  \
         spantap collect --listen 14318 --forward http://{}\n  \
         export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:14318",
        SocketAddr::new(address.ip(), 4318)
    );
    (problem, way_out)
}

/// Returns the hash of the token in the file `path`.
fn token(path: &Path) -> anyhow::Result<TokenHash> {
    let failed = || format!("failed to read the token in `{}`", path.display());
    let bytes = read_limited(path, MAX_TOKEN).with_context(failed)?;
    let token = bytes.trim_ascii();
    if token.len() < SHORTEST_TOKEN || !token.iter().all(u8::is_ascii_graphic) {
        let problem =
            anyhow::anyhow!("the token in `{}` is not one word of 16 characters at least", path.display());
        return Err(hint(problem, "make one: head -c 24 /dev/urandom | base64"));
    }
    if FileAccess::at(path).with_context(failed)?.is_open {
        let problem = anyhow::anyhow!("other users can read the token in `{}`", path.display());
        return Err(hint(problem, format!("chmod 600 '{}'", path.display())));
    }
    Ok(Sha256::digest(token).into())
}

/// A line about the collector for other commands.
pub(super) struct CollectorNote {
    pub(super) text: String,
    /// The way to put it right; `None` if nothing is wrong.
    pub(super) fix: Option<&'static str>,
}

/// Returns what is known of a collector that runs, or that did not end in order.
pub(super) fn last_run() -> Option<CollectorNote> {
    let state = collect::state::read()?;
    let counts = &state.counts;
    match state.run_state() {
        RunState::Running => {
            let losses = counts.losses();
            let taken = [
                format::plural(counts.requests, "request"),
                format::plural(counts.spans, "span"),
                format::plural(counts.logs, "log record"),
            ];
            let text = format!(
                "spantap collect runs (pid {}) on {} and has taken {}{}{losses}",
                state.pid,
                state.addresses.join(", "),
                taken.join(", "),
                if losses.is_empty() { "" } else { "; " },
            );
            let fix = (!losses.is_empty()).then_some("its own messages have the reasons");
            Some(CollectorNote { text, fix })
        }
        RunState::Killed => {
            let text = format!(
                "the last run of spantap collect (pid {}, from {}) did not end in order",
                state.pid, state.started_at
            );
            Some(CollectorNote { text, fix: Some("start it again with `spantap collect`, or as a service") })
        }
        RunState::Ended | RunState::Unknown => None,
    }
}

/// Prints where the collector listens and what it does.
fn begin(out: &mut Out<'_>, state: &CollectState, last: Option<&LastRun>) -> std::io::Result<()> {
    if let Some((last, run)) = last {
        match run {
            RunState::Running => note(&format!(
                "another collector runs (pid {}); `spantap status` shows that one, not this one",
                last.pid
            )),
            _ => note(&format!(
                "the last run (pid {}, from {}) did not end in order; requests that it had not answered, and facts \
                 that waited for their other parts, are lost",
                last.pid, last.started_at
            )),
        }
    }
    if let Some(forward) = &state.forward {
        note(&format!(
            "agents may put prompts and answers into their telemetry; spantap does not record those, but passes them \
             on to {forward}"
        ));
    }
    writeln!(out, "listening on {} (OTLP over HTTP and gRPC)", state.addresses.join(", "))?;
    if let Some(otlp) = &state.otlp {
        writeln!(out, "{}", Printable::new(&format!("sending metrics of model calls to {otlp}")))?;
    }
    let folder = match state.log_folder.as_str() {
        "" => "nothing is recorded (`log = false`)".to_owned(),
        folder => format!("recording to {}", paths::home_as_tilde(Path::new(folder))),
    };
    writeln!(out, "{}", Printable::new(&folder))?;
    writeln!(out, "set a program up with `spantap collect --setup PROGRAM`; end with Ctrl-C")?;
    out.flush()
}

/// Prints what the run did.
fn end(out: &mut Out<'_>, state: &CollectState) -> std::io::Result<()> {
    let counts = &state.counts;
    writeln!(
        out,
        "took {} with {}, {} and {}; wrote {}",
        format::plural(counts.requests, "request"),
        format::plural(counts.spans, "span"),
        format::plural(counts.logs, "log record"),
        format::plural(counts.points, "data point"),
        format::plural(counts.records, "record"),
    )?;
    if counts.own_spans > 0 {
        writeln!(out, "not recorded: {} of spantap itself", format::plural(counts.own_spans, "span"))?;
    }
    if counts.stray_spans > 0 {
        writeln!(
            out,
            "not recorded: {} of servers in traces without a span of an agent or of spantap",
            format::plural(counts.stray_spans, "span")
        )?;
    }
    if state.forward.is_some() {
        writeln!(out, "passed on: {}", format::plural(counts.forwarded, "request"))?;
    }
    if !counts.refused.is_empty() {
        let reasons: Vec<String> =
            counts.refused.iter().map(|(word, count)| format!("{word} {count}")).collect();
        writeln!(out, "refused: {}", reasons.join(", "))?;
    }
    let losses = counts.losses();
    if !losses.is_empty() {
        writeln!(out, "{losses}")?;
    }
    out.flush()
}
