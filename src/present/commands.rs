//! Keeps a CI system that reads the output of a job from taking a text of a server for a command of its own.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::LazyLock;

use regex::Regex;

/// How a character is written that would begin a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum CommandEscape {
    /// After a blank.
    #[default]
    Text,
    /// As an escape of JSON: the value stays the same.
    Json,
    /// As an entity of XML: the value stays the same.
    Xml,
}

/// Commands of Azure Pipelines, and the older ones of GitHub: anywhere in a line.
static ANYWHERE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"##([A-Za-z]*\[)").ok());

/// Returns lines of output in which no CI system finds a command.
pub(crate) fn without_commands(lines: &str, escape: CommandEscape) -> Cow<'_, str> {
    let [mark, colon] = match escape {
        CommandEscape::Text => ["## ", ": :"],
        CommandEscape::Json => ["#\\u0023", "::"],
        CommandEscape::Xml => ["#&#35;", "&#58;:"],
    };
    let anywhere = ANYWHERE.as_ref().map(|regex| regex.replace_all(lines, format!("{mark}$1")));
    let lines = anywhere.unwrap_or(Cow::Borrowed(lines));
    // Commands of GitHub: at the beginning of a line.
    let begins = |line: &str| line.trim_start().starts_with("::");
    if !lines.lines().any(begins) {
        return lines;
    }
    let line = |line: &str| match begins(line) {
        true => line.replacen("::", colon, 1),
        false => line.to_owned(),
    };
    Cow::Owned(lines.split_inclusive('\n').map(line).collect())
}

/// Writes whole lines to an output, without commands.
pub(crate) struct CommandlessLines<'o> {
    out: &'o mut dyn Write,
    escape: CommandEscape,
    /// The beginning of a line.
    rest: Vec<u8>,
}

impl<'o> CommandlessLines<'o> {
    pub(crate) fn new(out: &'o mut dyn Write, escape: CommandEscape) -> CommandlessLines<'o> {
        CommandlessLines { out, escape, rest: Vec::new() }
    }

    fn write_lines(&mut self, end: usize) -> io::Result<()> {
        let lines: Vec<u8> = self.rest.drain(..end).collect();
        self.out.write_all(without_commands(&String::from_utf8_lossy(&lines), self.escape).as_bytes())
    }
}

impl Write for CommandlessLines<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.rest.extend_from_slice(bytes);
        if let Some(end) = memchr::memrchr(b'\n', &self.rest) {
            self.write_lines(end + 1)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_lines(self.rest.len())?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_command_is_left_in_a_line_and_structured_values_stay_the_same() {
        let hostile = "a ##vso[task.setvariable variable=x]y ####[error]z ##TeamCity[q] # [b] ::error::c";
        let text = without_commands(hostile, CommandEscape::Text);
        assert_eq!(
            text,
            "a ## vso[task.setvariable variable=x]y #### [error]z ## TeamCity[q] # [b] ::error::c"
        );
        let json = serde_json::to_string(hostile).unwrap();
        let escaped = without_commands(&json, CommandEscape::Json);
        assert!(!escaped.contains("##vso[") && !escaped.contains("##["), "{escaped}");
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), hostile);
        let lines = "ok\n ::error::x\n::set-env::y\nz :: ::\n";
        assert_eq!(
            without_commands(lines, CommandEscape::Text),
            "ok\n : :error::x\n: :set-env::y\nz :: ::\n"
        );
        assert_eq!(without_commands(" ::x ##[y]", CommandEscape::Xml), " &#58;:x #&#35;[y]");
    }

    #[test]
    fn lines_are_judged_whole_however_they_are_written() {
        let text = "one\n::error::two\nthree ##vso[x]";
        for size in 1..text.len() {
            let mut written = Vec::new();
            let mut out = CommandlessLines::new(&mut written, CommandEscape::Text);
            text.as_bytes().chunks(size).for_each(|part| out.write_all(part).unwrap());
            out.flush().unwrap();
            assert_eq!(String::from_utf8(written).unwrap(), "one\n: :error::two\nthree ## vso[x]");
        }
    }
}
