//! Who this connection is: the ids on every record, and the server's name from its command.

use std::ffi::OsString;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::config::Environment;

/// Variables in which hosts tell their session, with the host's name.
const HOST_SESSIONS: &[(&str, &str)] = &[
    ("CLAUDE_CODE_SESSION_ID", "claude-code"),
    ("GROK_SESSION_ID", "grok"),
    ("GEMINI_SESSION_ID", "gemini-cli"),
];

/// An agent session's id and where it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionId {
    pub id: String,
    /// `flag`, `environment`, `host` or `derived`.
    pub source: &'static str,
}

/// The agent session: what was configured, else the host's own variable, else one derived from the host
/// process, which all servers that it started share. `parent` is the host's pid.
pub fn session_id(
    configured: Option<(String, &'static str)>,
    environment: Environment<'_>,
    parent: i32,
) -> SessionId {
    if let Some((id, source)) = configured {
        return SessionId { id, source };
    }
    if let Some(id) = HOST_SESSIONS.iter().find_map(|(variable, _)| environment(variable)) {
        return SessionId { id, source: "host" };
    }
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let stat = std::fs::read_to_string(format!("/proc/{parent}/stat")).unwrap_or_default();
    SessionId { id: derived(&boot, parent, start_time(&stat).unwrap_or_default()), source: "derived" }
}

/// The host's own id of the conversation, where it tells one for the whole process.
pub fn host_conversation(environment: Environment<'_>) -> Option<String> {
    HOST_SESSIONS.iter().find_map(|(variable, _)| environment(variable))
}

/// Field 22 of proc_pid_stat(5): when the process started, in clock ticks since boot.
fn start_time(stat: &str) -> Option<&str> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)
}

/// A UUIDv8 of boot, process and its start, which together name one process for ever.
fn derived(boot: &str, parent: i32, started: &str) -> String {
    let digest = Sha256::digest(format!("spantap session\n{}\n{parent}\n{started}", boot.trim()));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

/// A UUIDv7 for this connection.
pub fn connection_id() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mut random = [0; 10];
    let _ = getrandom::fill(&mut random);
    let millis = u64::try_from(now.as_millis()).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid().to_string()
}

/// Programs that start another one, whose name then is what counts; with the options that take a value.
const LAUNCHERS: &[(&str, &[&str])] = &[
    ("npx", &["-p", "--package", "-c", "--call"]),
    ("bunx", &["-p", "--package"]),
    ("pnpx", &[]),
    ("uvx", &["--from", "--with", "-p", "--python", "--index-url", "--index"]),
    ("pipx", &["--spec", "--python"]),
    ("env", &["-u", "-C", "-S"]),
    ("node", &["-r", "--require", "--import", "--loader"]),
    ("bun", &[]),
    ("deno", &["-c", "--config"]),
    ("tsx", &[]),
    ("python", &["-W", "-X"]),
    ("uv", &["--directory", "--project", "--with", "-p", "--python", "--from"]),
    (
        "docker",
        &["-e", "--env", "-v", "--volume", "--name", "--mount", "--network", "-p", "--env-file", "-u", "-w"],
    ),
    (
        "podman",
        &["-e", "--env", "-v", "--volume", "--name", "--mount", "--network", "-p", "--env-file", "-u", "-w"],
    ),
    ("pnpm", &[]),
    ("yarn", &[]),
    ("npm", &[]),
    ("sudo", &["-u"]),
    ("nice", &["-n"]),
    ("sh", &[]),
    ("bash", &[]),
    ("zsh", &[]),
    ("cmd", &[]),
    ("spantap", &[]),
];
/// Words between a launcher and what it launches.
const VERBS: &[&str] = &["run", "exec", "dlx", "tool", "start", "x", "run-script"];

/// A short name for the server that `command` starts: the package, the module or the script's stem.
pub fn server_name(command: &[OsString]) -> String {
    let words: Vec<String> = command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    named(&words).filter(|name| !name.is_empty()).unwrap_or_else(|| "server".to_owned())
}

fn named(words: &[String]) -> Option<String> {
    let (program, arguments) = words.split_first()?;
    let base = stem(program);
    let is_python = base.starts_with("python") || base == "pypy3";
    let launcher = if is_python { "python" } else { base.as_str() };
    let Some((_, with_value)) = LAUNCHERS.iter().find(|(name, _)| *name == launcher) else {
        return Some(package(&base));
    };
    let mut rest = arguments.iter().enumerate();
    let mut verbs_allowed = true;
    while let Some((index, word)) = rest.next() {
        match word.as_str() {
            "-m" if is_python => return rest.next().map(|(_, module)| module_name(module)),
            "-c" | "/c" if matches!(launcher, "sh" | "bash" | "zsh" | "cmd") => {
                let line: Vec<String> =
                    arguments[index + 1..].join(" ").split_whitespace().map(str::to_owned).collect();
                let line: Vec<String> =
                    line.into_iter().skip_while(|word| word == "exec" || word.contains('=')).collect();
                return named(&line);
            }
            "--" => {
                return arguments.get(index + 1..).and_then(|rest| match rest.first() {
                    Some(next) if is_launcher(next) => named(rest),
                    Some(next) => Some(package(next)),
                    None => None,
                });
            }
            option if option.starts_with('-') => {
                if with_value.contains(&option) {
                    rest.next();
                }
            }
            verb if verbs_allowed && VERBS.contains(&verb) => {}
            assignment if launcher == "env" && assignment.contains('=') => {}
            next if is_launcher(next) && index + 1 < arguments.len() => return named(&arguments[index..]),
            image if matches!(launcher, "docker" | "podman") => return Some(image_name(image)),
            next => return Some(package(next)),
        }
        verbs_allowed &= word.starts_with('-') || VERBS.contains(&word.as_str());
    }
    Some(package(&base))
}

fn is_launcher(word: &str) -> bool {
    let base = stem(word);
    base.starts_with("python") || LAUNCHERS.iter().any(|(name, _)| *name == base)
}

/// The file name without folder and ending.
fn stem(path: &str) -> String {
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    for ending in [".exe", ".cmd", ".bat", ".sh", ".py", ".js", ".mjs", ".cjs", ".ts"] {
        if let Some(stem) = name.strip_suffix(ending)
            && !stem.is_empty()
        {
            return stem.to_owned();
        }
    }
    name.to_owned()
}

/// `server-x` from `@scope/server-x@1.2`, `index` from no path at all but its folder.
fn package(word: &str) -> String {
    if word.contains(['/', '\\']) && !word.starts_with('@') {
        let path = Path::new(word);
        let stem = stem(word);
        // The name of a generic file says less than that of the folder it lies in.
        if matches!(stem.as_str(), "index" | "main" | "server" | "cli" | "app" | "__main__") {
            let generic = ["dist", "build", "src", "bin", "lib", "out"];
            let folders = path.parent().into_iter().flat_map(Path::iter).rev();
            let folder = folders.map(|part| part.to_string_lossy()).find(|part| !generic.contains(&&**part));
            if let Some(folder) = folder.filter(|folder| !matches!(&**folder, "." | ".." | "/" | "")) {
                return folder.into_owned();
            }
        }
        return stem;
    }
    let name = word.rsplit('/').next().unwrap_or(word);
    let name = name.split(['@', '[', '=', '>', '<', '~']).find(|part| !part.is_empty()).unwrap_or(name);
    stem(name)
}

/// `mcp-server-git` from `mcp_server_git`, `server` from `pkg.server` is `pkg`.
fn module_name(module: &str) -> String {
    let mut parts = module.split('.').collect::<Vec<_>>();
    while parts.len() > 1 && matches!(parts.last(), Some(&("server" | "main" | "cli" | "__main__"))) {
        parts.pop();
    }
    parts.last().copied().unwrap_or(module).replace('_', "-")
}

/// `server` from `registry.example/team/server:1.2@sha256:…`.
fn image_name(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split([':', '@']).next().unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_as_its_user_would_name_it() {
        for (command, name) in [
            ("npx -y @modelcontextprotocol/server-filesystem /data", "server-filesystem"),
            ("npx --yes some-mcp@1.2.3", "some-mcp"),
            ("npx -p @x/y some-bin", "some-bin"),
            ("uvx mcp-server-git --repository .", "mcp-server-git"),
            ("uvx --from git+https://h.example/x mcp-x", "mcp-x"),
            ("uv run --directory /x python -m pkg.server", "pkg"),
            ("uv tool run mcp-server-time", "mcp-server-time"),
            ("node dist/index.js", "index"),
            ("node /home/me/weather/dist/index.js", "weather"),
            ("node --require x.js build/tool.mjs", "tool"),
            ("python3 -m mcp_server_fetch", "mcp-server-fetch"),
            ("/usr/bin/python3.11 -u scripts/notes.py", "notes"),
            ("docker run -i --rm -e KEY ghcr.io/github/github-mcp-server:latest", "github-mcp-server"),
            ("/opt/bin/my-server --flag", "my-server"),
            ("sh -c exec FOO=1 my-server", "my-server"),
            ("env A=1 npx -y @a/b", "b"),
            ("spantap --server x -- npx -y @a/b", "b"),
            ("bunx some-mcp", "some-mcp"),
            ("cat", "cat"),
            ("C:\\tools\\thing.exe", "thing"),
            ("", "server"),
        ] {
            let words: Vec<OsString> =
                command.split(' ').filter(|word| !word.is_empty()).map(Into::into).collect();
            assert_eq!(server_name(&words), name, "{command}");
        }
    }

    #[test]
    fn the_servers_of_one_host_process_share_their_session() {
        let none = |_: &str| None;
        let of = |parent| session_id(None, &none, parent);
        let this = std::process::id() as i32;
        assert_eq!(of(this), of(this));
        assert_ne!(of(this).id, of(1).id);
        assert_eq!(of(this).source, "derived");
        assert_eq!(of(this).id.as_bytes()[14], b'8');
    }

    #[test]
    fn what_is_configured_wins_over_what_the_host_says() {
        let host = |name: &str| (name == "CLAUDE_CODE_SESSION_ID").then(|| "abc".to_owned());
        assert_eq!(session_id(None, &host, 1), SessionId { id: "abc".to_owned(), source: "host" });
        let configured = Some(("mine".to_owned(), "flag"));
        assert_eq!(session_id(configured, &host, 1).id, "mine");
    }
}
