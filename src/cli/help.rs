//! Help and manual pages: the groups and examples of the commands, and sections that all pages have, in one place.

use std::fmt::Write;

use clap::builder::styling::Style;

use crate::settings::DECLARATIONS;

pub(super) const CONFIG: &str = "Read this config file instead of the usual one";
pub(super) const OTLP_SET: &str =
    "Any entry of the config file's [otlp] table, e.g. protocol=grpc; repeatable";

/// Returns the help of the flag of the setting `name`.
pub(super) fn of(name: &str) -> String {
    DECLARATIONS.iter().find(|setting| setting.name == name).map_or_else(String::new, |setting| match setting
        .default
    {
        "none" => setting.help.to_owned(),
        default => format!("{} [default: {default}]", setting.help),
    })
}

/// A line that a user can type.
pub struct Example {
    pub line: &'static str,
    about: &'static str,
    /// True if a test runs it: it ends by itself and needs no network.
    pub is_run: bool,
}

/// An example that a test runs.
const fn runs(line: &'static str, about: &'static str) -> Example {
    Example { line, about, is_run: true }
}

/// An example that a test only parses.
const fn parses(line: &'static str, about: &'static str) -> Example {
    Example { line, about, is_run: false }
}

/// A command and its examples.
pub struct CommandHelp {
    pub name: &'static str,
    pub examples: &'static [Example],
}

const fn command(name: &'static str, examples: &'static [Example]) -> CommandHelp {
    CommandHelp { name, examples }
}

/// The commands by group, in the order of `--help`.
pub const GROUPS: &[(&str, &[CommandHelp])] = &[
    (
        "Look",
        &[
            command(
                "top",
                &[
                    parses("spantap top", "what runs now, full screen; ? lists the keys"),
                    parses("spantap top --once", "the same once, for scripts"),
                ],
            ),
            command(
                "tail",
                &[
                    parses("spantap tail -f", "calls of all servers as they happen"),
                    runs("spantap tail --status error --since 7d", "failures of the last week"),
                ],
            ),
            command(
                "why",
                &[
                    runs("spantap why", "where the time of the last session went, and what failed"),
                    runs("spantap why -1 --json", "the last call, for a script"),
                ],
            ),
            command(
                "sessions",
                &[
                    runs("spantap sessions --since 7d", "sessions of the last week, newest first"),
                    runs("spantap sessions --thrashing 5", "sessions in which an agent repeated a call"),
                ],
            ),
            command(
                "show",
                &[
                    runs("spantap show", "the last session as a waterfall"),
                    runs("spantap show -1", "the last call"),
                    parses(
                        "spantap show d76af1.19",
                        "the call with this handle, the first word of its line in tail",
                    ),
                ],
            ),
            command(
                "stats",
                &[
                    runs("spantap stats --since 7d --sort errors", "the tools that fail most"),
                    runs("spantap stats --by error --since 7d", "why they fail"),
                ],
            ),
            command(
                "diff",
                &[
                    runs("spantap diff yesterday today", "what has changed since yesterday"),
                    parses("spantap diff 01a2027b 01a2027d", "two sessions, by the beginnings of their ids"),
                    parses("spantap diff logs-before logs-after --json", "two folders, for a script"),
                ],
            ),
            command(
                "context",
                &[
                    runs("spantap context --since 7d", "what a turn pays, and the tools that no turn needs"),
                    parses("spantap context github --json", "one server, for a script"),
                ],
            ),
            command(
                "report",
                &[
                    runs("spantap report --since 7d -o week.html", "one page about the last week"),
                    parses(
                        "spantap report --server github --open",
                        "the last day of one server, in the browser",
                    ),
                ],
            ),
            command(
                "mcp",
                &[
                    parses("spantap mcp", "as the command of a server in the config file of a host"),
                    parses("spantap mcp --all", "every session, not only that of the host"),
                ],
            ),
        ],
    ),
    (
        "Watch",
        &[
            command(
                "wrap",
                &[
                    runs("spantap wrap --dry-run", "what would change"),
                    parses("spantap wrap github --host cursor", "one server of one host"),
                    runs(
                        "spantap wrap --yes -- --slow 10s",
                        "all servers without a question, with an option for each",
                    ),
                ],
            ),
            command(
                "unwrap",
                &[
                    runs("spantap unwrap --dry-run", "what would change"),
                    runs("spantap unwrap --all --yes", "every server of every file, also of this folder"),
                ],
            ),
            command(
                "status",
                &[
                    runs("spantap status", "which servers are watched, which run, when each was last seen"),
                    runs("spantap status --project --json", "with the files of this folder, for a script"),
                ],
            ),
            command(
                "debug",
                &[
                    runs("spantap debug on --for 5m --server 'git*'", "details of servers that run"),
                    runs("spantap debug on --bodies", "also arguments and results, redacted"),
                    runs("spantap debug off", "no more details"),
                ],
            ),
            command(
                "run",
                &[
                    parses(
                        "spantap run -- npx -y @modelcontextprotocol/server-memory",
                        "one server, as a host starts it",
                    ),
                    runs("spantap run --server notes --no-log -- cat", "with a name and without a log"),
                ],
            ),
        ],
    ),
    (
        "Collect",
        &[command(
            "collect",
            &[
                parses("spantap collect", "receive on ports 4318 and 4317 of this machine"),
                runs("spantap collect --setup claude-code", "the settings of an agent"),
                parses(
                    "spantap collect --listen 14318 --forward http://localhost:4318",
                    "in front of another collector",
                ),
            ],
        )],
    ),
    (
        "Health",
        &[
            command(
                "check",
                &[
                    runs("spantap check --all", "every server of your hosts, local and remote"),
                    parses("spantap check github --timeout 30s", "one of them, by its name"),
                    parses("spantap check -- npx -y @modelcontextprotocol/server-memory", "any command"),
                    parses(
                        "spantap check --every 30s --otlp http://localhost:4318 -- uvx mcp-server-git",
                        "a probe",
                    ),
                ],
            ),
            command(
                "gate",
                &[
                    runs(
                        "spantap gate --max-error-rate 20% --no-deaths --since 7d",
                        "judge the last week; the exit status is the verdict",
                    ),
                    parses(
                        "spantap gate --rules gate.toml --format junit --output gate.xml mcp-logs",
                        "a step of a CI job",
                    ),
                    parses("spantap gate --p95 'search_*=200ms' --max-result '*=20k' --json", "for a script"),
                ],
            ),
            command(
                "doctor",
                &[
                    runs("spantap doctor", "problems of the set-up, and how to fix each"),
                    runs("spantap doctor --json", "findings and settings for a bug report"),
                ],
            ),
        ],
    ),
    (
        "Data",
        &[
            command(
                "export",
                &[
                    parses(
                        "spantap export --otlp http://localhost:4318 --on yesterday",
                        "one day to a collector",
                    ),
                    parses("spantap export --resume", "continue after a collector was away"),
                ],
            ),
            command(
                "dashboards",
                &[
                    runs("spantap dashboards --out monitoring", "boards, alert rules and collector configs"),
                    runs(
                        "spantap dashboards --out monitoring --thrash-threshold 3 --force",
                        "with another threshold",
                    ),
                ],
            ),
            command(
                "redact",
                &[
                    runs(
                        "echo 'password: hunter2' | spantap redact --explain",
                        "what is removed, and by which rule",
                    ),
                    parses(
                        "spantap redact --check ~/.local/state/spantap/sessions/*.jsonl",
                        "logs of an older version",
                    ),
                ],
            ),
            command(
                "prune",
                &[
                    runs("spantap prune --older-than 30d --dry-run", "what would be deleted"),
                    runs("spantap prune --older-than 90d", "delete it"),
                ],
            ),
            command(
                "schema",
                &[
                    runs("spantap schema > record.schema.json", "the schema of a line of the log"),
                    parses("spantap schema | jq -r '.properties | keys[]'", "the names of all fields"),
                ],
            ),
        ],
    ),
    (
        "Setup",
        &[
            command(
                "demo",
                &[
                    runs("spantap demo", "try it without a server"),
                    runs("spantap demo --log-dir demo-logs", "keep the log in this folder"),
                ],
            ),
            command(
                "completions",
                &[
                    parses(
                        "spantap completions bash > ~/.local/share/bash-completion/completions/spantap",
                        "bash",
                    ),
                    parses("spantap completions fish > ~/.config/fish/completions/spantap.fish", "fish"),
                    parses("source <(spantap completions zsh)", "zsh, in ~/.zshrc"),
                ],
            ),
            command(
                "man",
                &[
                    parses("spantap man | man -l -", "the manual page of spantap"),
                    runs("spantap man tail > spantap-tail.1", "a page as a file"),
                ],
            ),
        ],
    ),
];

/// Returns the line of a heading, as clap styles it.
fn heading(title: &str) -> String {
    let style = Style::new().bold().underline();
    format!("{style}{title}:{style:#}\n")
}

fn find(name: &str) -> Option<&'static CommandHelp> {
    GROUPS.iter().flat_map(|(_, commands)| *commands).find(|command| command.name == name)
}

/// Adds the groups to the help of spantap, and examples to the help of each command.
pub(super) fn complete(mut program: clap::Command) -> clap::Command {
    let names: Vec<String> = program.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    for name in names {
        program = program.mut_subcommand(name, |command| {
            let Some(help) = find(command.get_name()) else { return command };
            let mut text = heading("Examples");
            for Example { line, about, .. } in help.examples {
                let faint = Style::new().dimmed();
                let _ = writeln!(text, "  {faint}# {about}{faint:#}\n  {line}");
            }
            let own = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            if !own.is_empty() && !own.contains(STATUS_HEAD) {
                text.extend(["\n", &own, "\n"]);
            }
            text.extend(["\n", STATUS_HEAD, &statuses(&command)]);
            command.after_help(text)
        });
    }
    let list = commands(&program);
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{list}{}{{options}}{{after-help}}",
        heading("Options of spantap -- COMMAND")
    );
    let after = "spantap COMMAND --help has examples; spantap man COMMAND prints the manual page.";
    program.help_template(template).after_help(after)
}

/// Returns the lines of all groups.
fn commands(program: &clap::Command) -> String {
    let mut text = String::new();
    for (title, rows) in grouped(program) {
        text.push_str(&heading(title));
        for (name, about) in rows {
            let bold = Style::new().bold();
            let _ = writeln!(text, "  {bold}{name:<13}{bold:#}{about}");
        }
        text.push('\n');
    }
    text
}

/// Returns the groups with the commands that `program` has, each with its description. A command that is in no
/// group is in the last one.
pub(super) fn grouped(program: &clap::Command) -> Vec<(&'static str, Vec<(String, String)>)> {
    let about = |command: &clap::Command| {
        (command.get_name().to_owned(), command.get_about().map(ToString::to_string).unwrap_or_default())
    };
    let shown = || program.get_subcommands().filter(|command| !command.is_hide_set());
    let mut groups = Vec::new();
    for (title, commands) in GROUPS {
        let here = commands.iter().filter_map(|help| shown().find(|command| command.get_name() == help.name));
        groups.push((*title, here.map(about).collect::<Vec<_>>()));
    }
    if let Some((_, last)) = groups.last_mut() {
        last.extend(shown().filter(|command| find(command.get_name()).is_none()).map(about));
        last.push(("help".to_owned(), "Print this text, or the help of a command".to_owned()));
    }
    groups
}

/// Returns the examples of a command; for spantap itself, the first of each group.
pub(super) fn examples(name: &str) -> Vec<(&'static str, &'static str)> {
    let pair = |example: &Example| (example.line, example.about);
    match find(name) {
        Some(help) => help.examples.iter().map(pair).collect(),
        None => {
            GROUPS.iter().filter_map(|(_, commands)| commands.last()?.examples.first().map(pair)).collect()
        }
    }
}

/// Begins the exit statuses in the help of a command.
const STATUS_HEAD: &str = "Exit status: ";
/// Statuses of a command whose help has none of its own.
const STATUSES: &str = "0 done; 1 an error; 2 usage.";
const READ_STATUSES: &str = "0 answered, also if nothing was found; 1 what was asked for is not there or cannot be \
                             read; 2 usage.";
const PROXY_STATUSES: &str = "that of the server; 128 and N if signal N ended it; 125 if spantap failed, 126 if the \
                              server's command cannot be executed, 127 if it cannot be found; 2 usage.";

/// Returns the exit statuses of a command, without the word that introduces them.
pub(super) fn statuses(command: &clap::Command) -> String {
    let own = command.get_after_help().map(ToString::to_string);
    match own.as_deref().and_then(|text| text.split_once(STATUS_HEAD)) {
        // A line that ends in the middle of a sentence goes on: the help is as wide as the terminal.
        Some((_, statuses)) => {
            let paragraph = statuses.split("\n\n").next().unwrap_or_default();
            paragraph.replace('\n', " ").replace(". ", ".\n")
        }
        None if matches!(command.get_name(), "spantap" | "run") => PROXY_STATUSES.to_owned(),
        None if command.get_arguments().any(|argument| argument.get_id() == "fail_if_empty") => {
            READ_STATUSES.to_owned()
        }
        None => STATUSES.to_owned(),
    }
}

/// Files of spantap, with their default places.
pub(super) const FILES: &[(&str, &str)] = &[
    ("~/.config/spantap/config.toml", "settings; $XDG_CONFIG_HOME replaces ~/.config"),
    (
        "~/.local/state/spantap/sessions/",
        "logs, one file for each connection; $XDG_STATE_HOME replaces ~/.local/state",
    ),
    ("~/.local/state/spantap/debug.json", "what spantap debug has turned on"),
    ("~/.local/state/spantap/live/", "open calls of the servers that run now"),
    ("~/.local/state/spantap/tools/", "hashes of the tools that each server had last"),
    ("~/.local/state/spantap/backups/", "config files of hosts before wrap and unwrap changed them"),
];

/// Tables of the config file, with their entries.
pub(super) const TABLES: &[(&str, &str)] = &[
    (
        "[otlp]",
        "protocol, headers, compression, certificate, client_certificate, client_key, timeout, temporality, \
         metric_interval, always_keep, sampler, sampler_arg, resource; traces, metrics and logs are true, false or \
         tables with entries of their own",
    ),
    (
        "[redaction]",
        "mode (default or strict), pii, extra_keys, allow_keys, allow_values, reveal_fields, placeholder, pattern",
    ),
    ("[cost.per_call]", "price of a call in USD, by a pattern of server/tool"),
    (
        "[cost.models]",
        "prices of a million tokens by a pattern of the model: input, output, cached, cache_write; for model calls \
         whose cost the agent does not report",
    ),
    ("[thrash.tools]", "threshold of repeated calls, by a pattern of the tool"),
    ("[server.NAME]", "any of these settings for one server"),
];

/// Returns the settings of the config file, each with its meaning.
pub(super) fn settings() -> Vec<(&'static str, String)> {
    let settings = DECLARATIONS.iter().map(|setting| (setting.name, of(setting.name)));
    settings.chain(TABLES.iter().map(|(name, entries)| (*name, (*entries).to_owned()))).collect()
}

/// Returns the environment variables that a command reads, each with its meaning.
pub(super) fn environment(command: &clap::Command) -> Vec<(String, String)> {
    let has = |id: &str| command.get_arguments().any(|argument| argument.get_id() == id);
    let mut variables: Vec<(String, String)> = Vec::new();
    let is_proxy = matches!(command.get_name(), "spantap" | "run" | "doctor");
    let reads = |name: &str| match name.strip_prefix("collect.") {
        Some(_) => matches!(command.get_name(), "collect" | "doctor"),
        None => is_proxy || name == "log_dir",
    };
    for setting in DECLARATIONS.iter().filter(|setting| reads(setting.name)) {
        variables.push((setting.variable(), of(setting.name)));
    }
    let mut add = |names: &str, meaning: &str| variables.push((names.to_owned(), meaning.to_owned()));
    add("SPANTAP_CONFIG", CONFIG);
    if has("otlp.endpoint") || has("otlp") {
        add("OTEL_EXPORTER_OTLP_*", "Collector, as the OpenTelemetry specification defines them");
    }
    if has("no_pager") {
        add("SPANTAP_PAGER, PAGER", "Program that shows long output on a terminal [default: less -FRX]");
    }
    if has("color") {
        add("NO_COLOR, CLICOLOR_FORCE, TERM", "Colour, if --color is auto");
    }
    add("XDG_CONFIG_HOME, XDG_STATE_HOME, HOME", "Folders of the files below");
    add("COLUMNS, LANG, TZ", "Width of a line, characters and time zone of the output");
    variables
}
