//! What there is to say about one record, in words.

use crate::present::format;
use crate::present::table::Tone;
use crate::query::entry::Entry;
use crate::record::EventName;
use crate::record::words::{Direction, EndReason, Status};

/// Why an operation deserves a look; empty for one that went well. Clean.
pub fn operation(entry: &Entry<'_>, warn: u32) -> (String, Tone) {
    let mut notes = Vec::new();
    let mut tone = Tone::Plain;
    match entry.status {
        Status::Ok => {}
        Status::Unknown => {
            notes.push(joined("answer not observed", &entry.error_type));
            tone = Tone::Faint;
        }
        status => {
            // `error` says less than its type; the other words say more.
            let word = match status {
                Status::Error if !entry.error_type.is_empty() => {
                    format::clean(&entry.error_type).into_owned()
                }
                status => status.as_str().to_owned(),
            };
            notes.push(joined(&word, &entry.error_message));
            tone =
                if status == Status::Error || status == Status::Timeout { Tone::Bad } else { Tone::Warning };
        }
    }
    let mut warning = |note: String| {
        notes.push(note);
        if tone == Tone::Plain {
            tone = Tone::Warning;
        }
    };
    if let Some(repeats) = entry.repeat_count.filter(|repeats| *repeats >= warn) {
        warning(format!("{repeats}x same arguments"));
    }
    if entry.pending_at.is_some() {
        warning("slow".to_owned());
    }
    if let Some(wait) = entry.user_wait_ms.filter(|wait| *wait > 0.0) {
        notes.push(format!("{} waiting for the user", format::duration(wait)));
    }
    if let Some(seq) = entry.continues_seq {
        notes.push(format!("continues #{seq}"));
    }
    if entry.direction == Some(Direction::ServerToClient) {
        notes.push("asked by the server".to_owned());
    }
    (notes.join(", "), tone)
}

fn joined(word: &str, detail: &str) -> String {
    match detail {
        "" => word.to_owned(),
        detail => format!("{word}: {}", format::clean(detail)),
    }
}

/// Whether a server that was asked to end did so in another way than well, or by the signal it was asked with.
fn is_unusual_end(entry: &Entry<'_>) -> bool {
    // SIGHUP, SIGINT, SIGKILL, SIGTERM.
    let asks = [1, 2, 9, 15];
    match (entry.signal, entry.exit_code) {
        (Some(signal), _) => !asks.contains(&signal),
        // As programs report that they caught one.
        (None, Some(code)) => code != 0 && !asks.contains(&code.saturating_sub(128)),
        (None, None) => false,
    }
}

/// What an event that is no operation says, if it is worth a line. Clean.
pub fn event(entry: &Entry<'_>) -> Option<(String, Tone)> {
    let tone = match entry.event {
        EventName::AgentThrashing | EventName::ServerUnresponsive | EventName::Gap => Tone::Bad,
        EventName::CallPending | EventName::ToolsChanged | EventName::Malformed | EventName::Unmatched => {
            Tone::Warning
        }
        EventName::SessionEnded if &*entry.reason != EndReason::ServerExited.as_str() => Tone::Bad,
        EventName::SessionEnded if is_unusual_end(entry) => Tone::Warning,
        _ => return None,
    };
    let text = match (crate::present::sessions::death(entry), entry.signal, entry.exit_code) {
        _ if entry.event != EventName::SessionEnded => format::clean(&entry.message).into_owned(),
        (Some(how), ..) => how,
        (None, Some(signal), _) => format!("died of signal {signal} when it was asked to end"),
        (None, None, Some(code)) => format!("exited with {code} when it was asked to end"),
        _ => format::clean(&entry.message).into_owned(),
    };
    Some((text, tone))
}
