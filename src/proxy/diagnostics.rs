//! Diagnostics of spantap itself: one line per warning on standard error, and a rolling file with `--verbose`.
//! Standard output is the wire and is never used.
//!
//! Only events of this crate are reported. Events of the HTTP and TLS crates may contain header values and do not
//! help the user of a host.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_appender::rolling::RollingFileAppender;

use crate::observe::redact::{self, Redactor};
use crate::record::timestamp::Timestamp;
use crate::system::access;
use crate::system::files::make_private_folder;
use crate::system::messages::say;
use crate::system::mutex::lock;

/// Number of daily files that are kept.
const MAX_FILES: usize = 7;

/// Installs the subscriber. Warnings go to standard error; with at least one `-v` also notes, to standard error
/// and to a file in `folder`. A folder that cannot be used is one warning. A second call has no effect.
pub(crate) fn install(verbosity: u8, folder: Option<&Path>) {
    let level = if verbosity == 0 { LevelFilter::WARN } else { LevelFilter::INFO };
    let (file, failed) = match folder.filter(|_| verbosity > 0).map(|folder| (folder, open(folder))) {
        Some((_, Ok(file))) => (Some(Mutex::new(file)), None),
        Some((folder, Err(error))) => (None, Some((folder, error))),
        None => (None, None),
    };
    let _ = tracing::subscriber::set_global_default(Diagnostics { level, file });
    if let Some((folder, error)) = failed {
        tracing::warn!(
            "no diagnostics file in `{}`: {error}; XDG_STATE_HOME chooses another",
            folder.display()
        );
    }
}

/// Opens the file of the day in `folder`, which is made private first: the appender follows the umask.
fn open(folder: &Path) -> Result<RollingFileAppender, Box<dyn std::error::Error>> {
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

/// Takes the events of this crate. It has no spans, so it needs none of the registry of `tracing-subscriber`, which
/// takes longer to set up than the rest of the observer.
struct Diagnostics {
    level: LevelFilter,
    file: Option<Mutex<RollingFileAppender>>,
}

impl Subscriber for Diagnostics {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && *metadata.level() <= self.level
            && metadata.target().starts_with(env!("CARGO_PKG_NAME"))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    /// Writes an event to standard error, which the server uses, too, and to the file.
    fn event(&self, event: &Event<'_>) {
        let (word, message) = (word(*event.metadata().level()), message(event));
        say(format_args!("{word}: {message}"));
        if let Some(file) = &self.file {
            let line = format!("{} {word}: {message}\n", Timestamp::now());
            // Standard error has the message already.
            let _ = lock(file).write_all(line.as_bytes());
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        _ => "note",
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
