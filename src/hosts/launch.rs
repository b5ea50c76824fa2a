//! The launch of an entry's server: the command with its environment and folder, or the address with its headers,
//! after the variables in them were replaced as the host would replace them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{MAIN_SEPARATOR_STR, Path, PathBuf};

use crate::hosts::entry::{ADDRESSES, EntryNode, EntryParts, PathStep, entry_nodes, own_command};
use crate::hosts::table::Host;
use crate::hosts::tree::{Node, NodeValue};
use crate::system::files::{home, read_limited};

/// How a server is reached. Its values are those of the user, and may be secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum ServerLaunch {
    Local(LocalLaunch),
    Remote(RemoteLaunch),
}

#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct LocalLaunch {
    /// The server's own command, without a proxy in front of it.
    pub(crate) command: Vec<OsString>,
    /// Variables that are set in addition to those of this process.
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) folder: Option<PathBuf>,
}

#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct RemoteLaunch {
    pub(crate) url: String,
    pub(crate) headers: BTreeMap<String, String>,
    /// True if the entry asks for the older transport, HTTP with SSE.
    pub(crate) is_sse: bool,
}

/// Largest file of variables, in bytes.
const MAX_ENV_FILE: u64 = 1 << 20;

/// Values of the variables in entries.
pub(crate) struct LaunchContext<'a> {
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
    /// Folder of the project, if one is known.
    pub(crate) workspace: Option<PathBuf>,
}

/// Returns the launch of each entry, in the order of [`entries`](crate::hosts::entry::entries), or the reason why it
/// is not known here. Only the launch of an entry that is asked for reads files.
pub(crate) fn launches(
    root: &Node,
    host: &Host,
    context: &LaunchContext<'_>,
) -> impl Iterator<Item = impl FnOnce() -> Result<ServerLaunch, String>> {
    entry_nodes(root, host).into_iter().map(move |entry| move || launch(&entry, host, context))
}

fn launch(entry: &EntryNode<'_>, host: &Host, context: &LaunchContext<'_>) -> Result<ServerLaunch, String> {
    let node = entry.node;
    match EntryParts::of(node, host.shape) {
        Ok(parts) => {
            let nodes = parts.words();
            let words: Vec<&str> = nodes.iter().filter_map(|node| node.text()).collect();
            let own = own_command(&words)?;
            let command = own.iter().map(|word| context.expand(word).map(OsString::from));
            Ok(ServerLaunch::Local(LocalLaunch {
                command: command.collect::<Result<_, _>>()?,
                environment: environment(node, context)?,
                folder: folder(entry, context)?,
            }))
        }
        Err(reason) => remote(node, context)?.map(ServerLaunch::Remote).ok_or_else(|| reason.to_owned()),
    }
}

fn remote(node: &Node, context: &LaunchContext<'_>) -> Result<Option<RemoteLaunch>, String> {
    let Some(address) = ADDRESSES.iter().find_map(|key| node.get(key)) else { return Ok(None) };
    let Some(url) = address.text().or_else(|| address.get("url")?.text()) else { return Ok(None) };
    let kind = node.get("type").or_else(|| node.get("transport")).and_then(Node::text);
    let mut headers = BTreeMap::new();
    let holders = [Some(node), Some(address), node.get("requestInit")];
    for holder in holders.into_iter().flatten() {
        for key in ["headers", "http_headers"] {
            headers.extend(texts(holder.get(key), context)?);
        }
    }
    // Codex names the variables that hold the values.
    for member in node.get("env_http_headers").map(Node::members).unwrap_or_default() {
        let name = member.value.text().unwrap_or_default();
        headers.insert(member.key.clone(), context.variable(name, None)?);
    }
    if let Some(name) = node.get("bearer_token_env_var").and_then(Node::text) {
        headers.insert("Authorization".to_owned(), format!("Bearer {}", context.variable(name, None)?));
    }
    Ok(Some(RemoteLaunch { url: context.expand(url)?, headers, is_sse: kind == Some("sse") }))
}

fn environment(node: &Node, context: &LaunchContext<'_>) -> Result<BTreeMap<String, String>, String> {
    let mut environment = BTreeMap::new();
    if let Some(file) = node.get("envFile").and_then(Node::text) {
        let file = context.expand(file)?;
        let text = read_limited(Path::new(&file), MAX_ENV_FILE)
            .and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other))
            .map_err(|error| format!("its envFile `{file}`: {error}"))?;
        environment.extend(text.lines().filter_map(env_line));
    }
    for key in ["env", "envs", "environment"] {
        environment.extend(texts(node.get(key), context)?);
    }
    // Goose keeps these in the key ring.
    let mut asked =
        node.get("env_keys").and_then(Node::items).unwrap_or_default().iter().filter_map(Node::text);
    match asked.find(|name| (context.variable)(name).is_none()) {
        Some(name) => Err(format!("needs input: the value of `{name}` is in the host's key ring")),
        None => Ok(environment),
    }
}

/// Parses `NAME=VALUE` as in a file of variables.
fn env_line(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=').filter(|_| !line.starts_with('#'))?;
    let value = value.trim();
    let quoted = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    Some((name.trim().to_owned(), quoted.unwrap_or(value).to_owned()))
}

/// Returns the members of a map of texts, numbers and booleans.
fn texts(map: Option<&Node>, context: &LaunchContext<'_>) -> Result<BTreeMap<String, String>, String> {
    let members = map.map(Node::last_members).unwrap_or_default();
    let texts = members.into_iter().filter_map(|member| match &member.value.value {
        NodeValue::Text(text) => Some((&member.key, text)),
        NodeValue::Other(text) if text != "null" => Some((&member.key, text)),
        _ => None,
    });
    texts.map(|(key, text)| Ok((key.clone(), context.expand(text)?))).collect()
}

/// Returns the working folder. An entry below a project runs in that project.
fn folder(entry: &EntryNode<'_>, context: &LaunchContext<'_>) -> Result<Option<PathBuf>, String> {
    let given = ["cwd", "workingDirectory", "working_directory"].iter().find_map(|key| entry.node.get(key));
    if let Some(given) = given.and_then(Node::text) {
        return Ok(Some(PathBuf::from(context.expand(given)?)));
    }
    let project = match &entry.path[..] {
        [PathStep::Key(first), PathStep::Key(project), ..] if first == "projects" => Some(project),
        _ => None,
    };
    Ok(project.map(PathBuf::from).filter(|folder| folder.is_dir()).or_else(|| context.workspace.clone()))
}

impl LaunchContext<'_> {
    /// Replaces `${NAME}`, `${NAME:-DEFAULT}`, `${env:NAME}`, `{env:NAME}` and the folders that hosts know. The error
    /// names the first that only the host or a person can replace.
    fn expand(&self, text: &str) -> Result<String, String> {
        let mut expanded = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            let (before, from) = rest.split_at(at);
            let is_variable = before.ends_with('$') || from.starts_with("{env:");
            let Some(end) = from.find('}').filter(|_| is_variable) else {
                expanded.push_str(before);
                expanded.push('{');
                rest = &from[1..];
                continue;
            };
            expanded.push_str(before.strip_suffix('$').unwrap_or(before));
            expanded.push_str(&self.value(&from[1..end])?);
            rest = &from[end + 1..];
        }
        expanded.push_str(rest);
        Ok(expanded)
    }

    fn value(&self, name: &str) -> Result<String, String> {
        let (name, default) = match name.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (name, None),
        };
        match name {
            "/" | "pathSeparator" => Ok(MAIN_SEPARATOR_STR.to_owned()),
            "userHome" => self.variable(home::VARIABLE, None),
            "workspaceFolder" | "CLAUDE_PROJECT_DIR" if self.workspace.is_some() => {
                Ok(self.workspace.as_deref().unwrap_or(Path::new("")).to_string_lossy().into_owned())
            }
            _ => match name.split_once(':') {
                None => self.variable(name, default),
                Some(("env", name)) => self.variable(name, default),
                Some(("input", _)) => Err(format!("needs input: ${{{name}}}")),
                // The text after the colon may be a secret, so it is not shown.
                Some((kind, _)) => Err(format!("needs input: ${{{kind}:...}}")),
            },
        }
    }

    fn variable(&self, name: &str, default: Option<&str>) -> Result<String, String> {
        let found = (self.variable)(name).filter(|value| default.is_none() || !value.is_empty());
        found
            .or_else(|| default.map(str::to_owned))
            .ok_or_else(|| format!("needs input: `{}` is not set here", name.trim_matches(['{', ' '])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hosts::entry::EntryState;
    use crate::hosts::table::host;
    use crate::hosts::tree::FileFormat;

    fn first(host_id: &str, text: &str) -> Result<ServerLaunch, String> {
        let host = host(host_id).unwrap();
        let format = if host_id == "codex" { FileFormat::Toml } else { FileFormat::Json };
        let root = Node::parse(text, format).unwrap();
        let variable = |name: &str| match name {
            "HOME" | "USERPROFILE" => Some("/home/ada".to_owned()),
            "TOKEN" => Some("secret".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        launches(&root, host, &LaunchContext { variable: &variable, workspace: None }).next().unwrap()()
    }

    fn local(host_id: &str, text: &str) -> LocalLaunch {
        match first(host_id, text) {
            Ok(ServerLaunch::Local(local)) => local,
            Ok(ServerLaunch::Remote(_)) => panic!("{text}: remote"),
            Err(reason) => panic!("{text}: {reason}"),
        }
    }

    fn remote(host_id: &str, text: &str) -> RemoteLaunch {
        match first(host_id, text) {
            Ok(ServerLaunch::Remote(remote)) => remote,
            _ => panic!("{text}: not remote"),
        }
    }

    #[test]
    fn a_command_comes_without_its_proxy_and_with_its_environment_and_folder() {
        let wrapped = local(
            "claude-desktop",
            r#"{"mcpServers": {"a": {"command": "/bin/spantap",
            "args": ["run", "--wrapped", "1:abc", "--", "${HOME}/srv", "{x}", "${EMPTY:-d}"],
            "env": {"T": "a-${env:TOKEN}", "N": 7, "X": null}, "cwd": "${userHome}${/}w"}}}"#,
        );
        assert_eq!(wrapped.command, ["/home/ada/srv", "{x}", "d"]);
        let environment = [("N", "7"), ("T", "a-secret")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(wrapped.environment, BTreeMap::from(environment));
        assert_eq!(wrapped.folder, Some(PathBuf::from("/home/ada/w")));
        let by_hand =
            local("cursor", r#"{"mcpServers": {"a": {"command": "spantap", "args": ["--", "npx", "-y"]}}}"#);
        assert_eq!(by_hand.command, ["npx", "-y"]);
        let project = local(
            "claude-code",
            r#"{"projects": {"/tmp": {"mcpServers": {"a": {"command": "x", "args": []}}}}}"#,
        );
        assert_eq!(project.folder, Some(PathBuf::from("/tmp")));
        let opencode =
            local("opencode", r#"{"mcp": {"a": {"command": ["uv"], "environment": {"K": "{env:TOKEN}"}}}}"#);
        assert_eq!(opencode.environment["K"], "secret");
    }

    #[test]
    fn an_address_comes_with_the_headers_of_its_entry() {
        let plain = r#"{"mcpServers": {"a": {"type": "sse", "url": "https://h/${NO:-mcp}", "headers": {"A": "Bearer ${TOKEN}"}}}}"#;
        let plain = remote("claude-code", plain);
        assert_eq!((plain.url.as_str(), plain.is_sse), ("https://h/mcp", true));
        assert_eq!(plain.headers["A"], "Bearer secret");
        let codex = "[mcp_servers.a]\nurl = \"https://h\"\nbearer_token_env_var = \"TOKEN\"\n\
                     http_headers = { \"X-A\" = \"1\" }\nenv_http_headers = { \"X-B\" = \"TOKEN\" }\n";
        let codex = remote("codex", codex);
        assert_eq!(codex.headers.len(), 3);
        assert_eq!((&*codex.headers["Authorization"], &*codex.headers["X-B"]), ("Bearer secret", "secret"));
    }

    #[test]
    fn only_the_host_knows_some_values_and_the_reason_names_them_alone() {
        for (value, reason) in [
            ("${input:pat}", "needs input: ${input:pat}"),
            ("${cmd: op read op://vault/secret}", "needs input: ${cmd:...}"),
            ("x${NOT_SET}", "needs input: `NOT_SET` is not set here"),
            ("${{ secrets.KEY }}", "needs input: `secrets.KEY` is not set here"),
            ("${workspaceFolder}/x", "needs input: `workspaceFolder` is not set here"),
        ] {
            let text = format!(r#"{{"mcpServers": {{"a": {{"command": "x", "env": {{"K": "{value}"}}}}}}}}"#);
            assert_eq!(first("cursor", &text).err().as_deref(), Some(reason), "{value}");
        }
        let shell = r#"{"mcpServers": {"a": {"command": "npx -y pkg"}}}"#;
        assert!(first("cursor", shell).err().unwrap().contains("whole command line"));
    }

    #[test]
    fn every_entry_of_the_corpus_is_launched_or_has_a_reason() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/hosts");
        let (mut launched, mut refused) = (0, 0);
        for host in crate::hosts::table::HOSTS {
            for file in std::fs::read_dir(Path::new(corpus).join(host.id)).into_iter().flatten().flatten() {
                let Ok(text) = std::fs::read_to_string(file.path()) else { continue };
                let Ok(root) = Node::parse(&text, FileFormat::of(&file.path())) else { continue };
                let context = LaunchContext { variable: &|_| Some("x".to_owned()), workspace: None };
                let launches: Vec<_> = launches(&root, host, &context).map(|launch| launch()).collect();
                let entries = crate::hosts::entry::entries(&root, host);
                assert_eq!(launches.len(), entries.len(), "{:?}", file.path());
                for (launch, entry) in launches.iter().zip(&entries) {
                    let is_remote = matches!(launch, Ok(ServerLaunch::Remote(_)));
                    let is_expected = launch.is_err() || is_remote == (entry.state == EntryState::Remote);
                    assert!(is_expected, "{:?}: {entry:?}", file.path());
                    *(if launch.is_ok() { &mut launched } else { &mut refused }) += 1;
                }
            }
        }
        assert!(launched > 150 && refused < launched / 3, "{launched} launched, {refused} not");
    }

    #[test]
    fn a_file_of_variables_is_read_only_for_an_entry_that_is_asked_for_and_up_to_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("env");
        let entry = format!(r#"{{"mcpServers": {{"a": {{"command": "x", "envFile": {path:?}}}}}}}"#);
        std::fs::write(&path, "A=1\n").unwrap();
        assert_eq!(local("cursor", &entry).environment["A"], "1");
        std::fs::File::create(&path).unwrap().set_len(MAX_ENV_FILE + 1).unwrap();
        assert!(first("cursor", &entry).err().unwrap().contains("larger than 1 MiB"));
        let root = Node::parse(&entry.replace("env\"}", "${NAME}\"}"), FileFormat::Json).unwrap();
        let context = LaunchContext { variable: &|name| panic!("{name} was read"), workspace: None };
        assert_eq!(launches(&root, host("cursor").unwrap(), &context).count(), 1);
    }

    #[test]
    fn a_file_of_variables_is_read_as_lines() {
        assert_eq!(env_line("export A = 'x y' "), Some(("A".to_owned(), "x y".to_owned())));
        assert_eq!(env_line("# A=1"), None);
        assert_eq!(env_line("A=b=c"), Some(("A".to_owned(), "b=c".to_owned())));
    }
}
