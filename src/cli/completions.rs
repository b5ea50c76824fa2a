//! `spantap completions`: prints a shell completion script.
//!
//! The script of `clap_complete` knows commands and options. Names of servers, tools, sessions and calls change, so the
//! shell asks a hidden option for them.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use clap_complete::Shell;

use crate::cli::selection::{DefaultRange, Reading, SelectArgs};
use crate::cli::wrap::{ServerSelection, host_files};
use crate::cli::{Cli, Out};
use crate::hosts::entry;
use crate::query::entry::LogEntry;
use crate::query::row::handle;
use crate::query::scan::Fold;
use crate::record::EventName;
use crate::record::timestamp::Timestamp;

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell that the script is for
    #[arg(value_enum, required = true)]
    shell: Option<Shell>,
    /// Print the words of this kind, one on a line
    #[arg(long, value_enum, hide = true, exclusive = true)]
    values: Option<CompletedWord>,
}

/// A kind of words that change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CompletedWord {
    Servers,
    Tools,
    Sessions,
    Calls,
    /// Servers in the files of hosts.
    Entries,
}

/// Time range of the records whose words are completed.
const RANGE: &str = "7d";
/// Greatest number of sessions or calls, the newest ones.
const MOST: usize = 40;

impl CompletionsArgs {
    pub(crate) fn run(self, out: &mut Out<'_>) -> anyhow::Result<ExitCode> {
        if let Some(kind) = self.values {
            // A shell expands some characters of a word, and a record has text from outside.
            let is_plain = |word: &String| word.chars().all(|c| c.is_alphanumeric() || "._-/@:".contains(c));
            words(kind)?.iter().filter(|word| is_plain(word)).try_for_each(|word| writeln!(out, "{word}"))?;
            return Ok(ExitCode::SUCCESS);
        }
        let Some(shell) = self.shell else { return Ok(ExitCode::FAILURE) };
        // The generator panics if it cannot write, so it writes to memory.
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::plain(), env!("CARGO_PKG_NAME"), &mut script);
        let script = String::from_utf8(script)?;
        let script = match shell {
            Shell::Bash => script + BASH,
            Shell::Zsh => zsh(&script),
            Shell::Fish => script + FISH,
            _ => script,
        };
        out.write_all(script.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

fn words(kind: CompletedWord) -> anyhow::Result<Vec<String>> {
    if kind == CompletedWord::Entries {
        let files = host_files(&ServerSelection::default())?;
        let names = files.iter().filter_map(|file| Some(entry::entries(&file.read().ok()?.1, file.host)));
        let names: BTreeSet<String> = names.flatten().map(|server| server.name).collect();
        return Ok(names.into_iter().collect());
    }
    let select = SelectArgs { since: Some(RANGE.to_owned()), ..SelectArgs::default() };
    let reading = Reading::open_early(&select, DefaultRange::LastDay)?;
    let (found, _) = reading.scan(|| WordFold { kind, found: BTreeSet::new() });
    let newest = || found.found.iter().take(MOST).map(|(_, word)| word.clone());
    Ok(match kind {
        CompletedWord::Calls => ["last", "-1"].map(str::to_owned).into_iter().chain(newest()).collect(),
        CompletedWord::Sessions => {
            let mut seen = BTreeSet::new();
            newest().filter(|word| seen.insert(word.clone())).collect()
        }
        _ => found.found.into_iter().map(|(_, word)| word).collect(),
    })
}

/// Collects the words of one kind; sessions and calls are in the order of time, the newest first.
struct WordFold {
    kind: CompletedWord,
    found: BTreeSet<(Reverse<Timestamp>, String)>,
}

impl WordFold {
    fn add(&mut self, at: Timestamp, word: String) {
        if !word.is_empty() {
            self.found.insert((Reverse(at), word));
        }
        if matches!(self.kind, CompletedWord::Calls | CompletedWord::Sessions) && self.found.len() > MOST {
            self.found.pop_last();
        }
    }
}

impl Fold for WordFold {
    fn take(&mut self, entry: &LogEntry<'_>, _line: &[u8]) {
        let same = Timestamp(0);
        match self.kind {
            CompletedWord::Servers => self.add(same, entry.server_name.to_string()),
            CompletedWord::Tools => self.add(same, entry.tool_name.to_string()),
            CompletedWord::Sessions if entry.event == EventName::SessionStarted => {
                self.add(entry.timestamp, entry.session_id.chars().take(8).collect());
            }
            CompletedWord::Calls if entry.event == EventName::McpToolCall => {
                self.add(entry.timestamp, handle(&entry.connection_id, entry.seq));
            }
            _ => {}
        }
    }

    fn merge(&mut self, other: WordFold) {
        for (Reverse(at), word) in other.found {
            self.add(at, word);
        }
    }
}

const BASH: &str = r#"
# Names of servers, tools, sessions and calls come from spantap. compgen -W would expand them, so it is not used.
_spantap_words() {
    local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}" kind= word
    [[ $cur == "=" ]] && cur=
    [[ $prev == "=" ]] && prev="${COMP_WORDS[COMP_CWORD-2]}"
    case "$prev" in
        --server) kind=servers ;;
        --tool) kind=tools ;;
        --session) kind=sessions ;;
        *) case "${COMP_WORDS[1]}" in
            show|why) [[ $COMP_CWORD -eq 2 ]] && kind=calls ;;
            diff) [[ $COMP_CWORD -le 3 ]] && kind=sessions ;;
            context) [[ $COMP_CWORD -eq 2 ]] && kind=servers ;;
            wrap|unwrap|status|check) kind=entries ;;
        esac ;;
    esac
    if [[ -n $kind && ($cur != -* || $kind == calls) ]]; then
        COMPREPLY=()
        while IFS= read -r word; do
            [[ $word == "$cur"* ]] && COMPREPLY+=("$word")
        done < <(spantap completions --values "$kind" 2>/dev/null)
        [[ ${#COMPREPLY[@]} -gt 0 ]] && return
    fi
    _spantap "$@"
}
complete -F _spantap_words -o bashdefault -o default spantap
"#;

const FISH: &str = r#"
# Names of servers, tools, sessions and calls come from spantap.
complete -c spantap -n "not __fish_spantap_needs_command" -l server -x -a "(spantap completions --values servers 2>/dev/null)"
complete -c spantap -n "not __fish_spantap_needs_command" -l tool -x -a "(spantap completions --values tools 2>/dev/null)"
complete -c spantap -n "not __fish_spantap_needs_command" -l session -x -a "(spantap completions --values sessions 2>/dev/null)"
complete -c spantap -n "__fish_seen_subcommand_from show why" -a "(spantap completions --values calls 2>/dev/null)"
complete -c spantap -n "__fish_seen_subcommand_from diff" -a "(spantap completions --values sessions 2>/dev/null)"
complete -c spantap -n "__fish_seen_subcommand_from context" -a "(spantap completions --values servers 2>/dev/null)"
complete -c spantap -n "__fish_seen_subcommand_from wrap unwrap status check" -f -a "(spantap completions --values entries 2>/dev/null)"
"#;

const ZSH: &str = r#"
# Names of servers, tools, sessions and calls come from spantap.
_spantap_servers() { compadd -- ${(f)"$(spantap completions --values servers 2>/dev/null)"} }
_spantap_tools() { compadd -- ${(f)"$(spantap completions --values tools 2>/dev/null)"} }
_spantap_sessions() { compadd -- ${(f)"$(spantap completions --values sessions 2>/dev/null)"} }
_spantap_calls() { compadd -V calls -- ${(f)"$(spantap completions --values calls 2>/dev/null)"} }
_spantap_entries() { compadd -- ${(f)"$(spantap completions --values entries 2>/dev/null)"} }

"#;

/// Replaces the default completion of arguments by our functions.
fn zsh(script: &str) -> String {
    const FUNCTIONS: [(&str, &str); 9] = [
        ("--server=[", "servers"),
        ("--tool=[", "tools"),
        ("--session=[", "sessions"),
        ("'::target -- ", "calls"),
        ("'::a -- ", "sessions"),
        ("'::b -- ", "sessions"),
        ("'::name -- ", "servers"),
        ("'*::servers -- ", "entries"),
        ("'*::names -- ", "entries"),
    ];
    let line = |line: &str| match FUNCTIONS.iter().find(|(mark, _)| line.contains(mark)) {
        Some((_, kind)) => line.replace(":_default'", &format!(":_spantap_{kind}'")),
        None => line.to_owned(),
    };
    let script: Vec<String> = script.lines().map(line).collect();
    let script = script.join("\n") + "\n";
    // The functions are defined before the last lines, which run the completion.
    match script.rfind("if [ \"$funcstack[1]\"") {
        Some(end) => format!("{}{ZSH}{}", &script[..end], &script[end..]),
        None => script + ZSH,
    }
}
