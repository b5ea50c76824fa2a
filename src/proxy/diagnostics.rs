//! Diagnostics of spantap itself: one line per warning on standard error, and a rolling file with `--verbose`.
//! Standard output is the wire and is never used.
//!
//! Only events of this crate are reported. Events of the HTTP and TLS crates may contain header values and do not
//! help the user of a host.

use std::fmt::{self, Write as _};
use std::path::Path;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::observe::redact::{self, Redactor};
use crate::system::access;
use crate::system::files::make_private_folder;

/// Number of daily files that are kept.
const MAX_FILES: usize = 7;

/// Installs the subscriber. Warnings go to standard error; with at least one `-v` also notes, to standard error
/// and to a file in `folder`. A folder that cannot be used is one warning. A second call has no effect.
pub(crate) fn install(verbosity: u8, folder: Option<&Path>) {
    let level = match verbosity {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let own_events = Targets::new().with_target(env!("CARGO_PKG_NAME"), level);
    let file = folder.filter(|_| verbosity > 0).map(|folder| (folder, open(folder)));
    let failed = file
        .as_ref()
        .and_then(|(folder, file)| file.as_ref().err().map(|error| (*folder, error.to_string())));
    let file = file.and_then(|(_, file)| file.ok());
    let file_layer = file.map(|file| {
        tracing_subscriber::fmt::layer()
            .event_format(DiagnosticsFormat)
            .with_writer(std::sync::Mutex::new(file))
    });
    let subscriber = tracing_subscriber::registry()
        .with(StderrLayer.with_filter(own_events.clone()))
        .with(file_layer.with_filter(own_events));
    let _ = tracing::subscriber::set_global_default(subscriber);
    if let Some((folder, error)) = failed {
        tracing::warn!(
            "no diagnostics file in `{}`: {error}; XDG_STATE_HOME chooses another",
            folder.display()
        );
    }
}

/// Opens the file of the day in `folder`, which is made private first: the appender follows the umask.
fn open(folder: &Path) -> Result<tracing_appender::rolling::RollingFileAppender, Box<dyn std::error::Error>> {
    make_private_folder(folder)?;
    // The folder may have existed before, and the umask decides who can read the files in it.
    access::close_folder(folder)?;
    let appender = tracing_appender::rolling::Builder::new()
        .rotation(tracing_appender::rolling::Rotation::DAILY)
        .filename_prefix("spantap")
        .filename_suffix("log")
        .max_log_files(MAX_FILES)
        .build(folder)?;
    for file in
        std::fs::read_dir(folder)?.flatten().filter(|file| file.path().extension() == Some("log".as_ref()))
    {
        // A file of another user stays as it is. The folder is private.
        let _ = access::make_private(&file.path());
    }
    Ok(appender)
}

/// Writes an event to standard error, which the server uses, too.
struct StderrLayer;

impl<S: Subscriber> Layer<S> for StderrLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        crate::system::messages::say(format_args!("{}: {}", word(*event.metadata().level()), message(event)));
    }
}

/// Formats an event as one line that begins with its time.
struct DiagnosticsFormat;

impl<S, N> FormatEvent<S, N> for DiagnosticsFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let now = crate::record::timestamp::Timestamp::now();
        writeln!(writer, "{now} {}: {}", word(*event.metadata().level()), message(event))
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "note",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// Returns the message of an event on one line and without secrets.
fn message(event: &Event<'_>) -> String {
    struct MessageVisitor(String);
    impl Visit for MessageVisitor {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            if field.name() == "message" {
                let _ = write!(self.0, "{value:?}");
            }
        }
    }
    let mut message = MessageVisitor(String::new());
    event.record(&mut message);
    // Our messages contain paths, URLs and errors of the system.
    Redactor::default().redact(redact::Field::StderrLine, message.0.as_bytes()).as_str().to_owned()
}
