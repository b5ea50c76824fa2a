//! Connections inside another connection: a wrapped server whose command is a wrapped server too. Each of its
//! calls is in both logs.

use std::collections::HashSet;
use std::io;

use memchr::memmem::Finder;

use crate::query::entry::LogEntry;
use crate::query::files::LogSource;
use crate::query::scan::{LineReader, LogLine};
use crate::query::select::Selection;
use crate::record::EventName;
use crate::record::file_name::{SessionFileName, unpacked};

/// The span of a connection, and its parent in the environment of that spantap process.
struct Start {
    connection_id: Box<str>,
    span: (String, String),
    parent: (String, String),
    is_selected: bool,
}

/// Returns the ids of the connections whose parent span is the span of another selected connection of `sources`.
/// A stream is not read.
pub(crate) fn inner_connections(sources: &[LogSource], select: &Selection) -> HashSet<Box<str>> {
    let mut starts = Vec::new();
    // One buffer for all files: making it costs more than reading a line.
    let mut buffer = Vec::new();
    for source in sources {
        // The scan reports what cannot be read.
        let _ = read_starts(source, select, &mut buffer, &mut starts);
    }
    let spans: HashSet<&(String, String)> =
        starts.iter().filter(|start| start.is_selected).map(|start| &start.span).collect();
    let inner = starts.iter().filter(|start| spans.contains(&start.parent));
    inner.map(|start| start.connection_id.clone()).collect()
}

fn read_starts(
    source: &LogSource,
    select: &Selection,
    buffer: &mut Vec<u8>,
    starts: &mut Vec<Start>,
) -> io::Result<()> {
    let Some(path) = source.path() else { return Ok(()) };
    // A file of spantap has one connection, and begins with its start. A file that was put together has several.
    let name = path.file_name().and_then(|name| name.to_str()).map(unpacked);
    let has_one = name.is_some_and(|name| SessionFileName::parse(name).is_some());
    let word = Finder::new("session_started");
    let mut lines = LineReader::new(source.open(0)?, buffer, 0);
    while let LogLine::Whole(line) | LogLine::Last(line) = lines.next()? {
        if word.find(line).is_some()
            && let Ok(entry) = LogEntry::parse(line)
            && entry.event == EventName::SessionStarted
        {
            let span = |id: &str| (entry.trace_id.to_string(), id.to_owned());
            starts.push(Start {
                connection_id: (&*entry.connection_id).into(),
                span: span(&entry.span_id),
                parent: span(&entry.parent_span_id),
                is_selected: !entry.span_id.is_empty() && select.takes_connection(&entry),
            });
        }
        if has_one {
            break;
        }
    }
    Ok(())
}
