//! Notes on one record, in words.

use crate::present::table::Tone;
use crate::present::{Printable, format};
use crate::query::event::{Severity, failure_words};
use crate::query::row::OperationRow;
use crate::record::words::Status;

/// Returns what is unusual about an operation. `warn` is the number of identical calls from which on it is marked.
pub(crate) fn operation(row: &OperationRow, warn: u32) -> (Printable, Tone) {
    let mut notes = Vec::new();
    let mut tone = Tone::Plain;
    match row.status {
        Status::Ok => {}
        Status::Unknown => {
            notes.push(joined("answer not observed", &row.error_type));
            tone = Tone::Faint;
        }
        status => {
            // The error type is more precise than `error`, unless a tool's own message follows; the other statuses
            // are more precise than it.
            let has_message = &*row.error_type == "tool_error" && !row.error_message.is_empty();
            let word = match status {
                Status::Error if !row.error_type.is_empty() && !has_message => failure_words(&row.error_type),
                status => status.as_str(),
            };
            notes.push(joined(word, &row.error_message));
            tone = match status {
                Status::Error | Status::Timeout => Tone::Bad,
                _ => Tone::Warning,
            };
        }
    }
    let mut warning = |note: String| {
        notes.push(note);
        if tone == Tone::Plain {
            tone = Tone::Warning;
        }
    };
    if let Some(repeats) = row.repeat_count.filter(|repeats| *repeats >= warn) {
        warning(format!("same call {repeats}x"));
    }
    if row.is_slow {
        warning("slow".to_owned());
    }
    if let Some(wait) = row.user_wait_ms.filter(|wait| *wait > 0.0) {
        notes.push(format!("{} waiting for the host", format::duration(wait)));
    }
    if let Some(seq) = row.continues_seq {
        notes.push(format!("continues #{seq}"));
    }
    if row.is_from_server {
        notes.push("asked by the server".to_owned());
    }
    (notes.join(", ").into(), tone)
}

fn joined(word: &str, detail: &str) -> String {
    match detail {
        "" => word.to_owned(),
        detail => format!("{word}: {detail}"),
    }
}

impl From<Severity> for Tone {
    fn from(severity: Severity) -> Tone {
        match severity {
            Severity::Info => Tone::Faint,
            Severity::Warning => Tone::Warning,
            Severity::Failure => Tone::Bad,
        }
    }
}
