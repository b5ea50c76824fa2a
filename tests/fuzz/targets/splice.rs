//! Host config files: a wrapped entry is restored byte for byte, and other parsers than the editor's see the
//! rest of the file unchanged.

use spantap::hosts::edit;
use spantap::hosts::entry::{EntryState, PathStep, ServerEntry, entries};
use spantap::hosts::own_entry;
use spantap::hosts::splice::{EntryChange, ProxyCommand};
use spantap::hosts::table::{HOSTS, Host};
use spantap::hosts::tree::{FileFormat, Node};

const PROGRAM: &str = "/opt/bin/spantap \"x\"";

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    for format in [FileFormat::Json, FileFormat::Toml, FileFormat::Yaml] {
        let Ok(root) = Node::parse(text, format) else { continue };
        // One host for each format and place of servers.
        for host in [
            "claude-code",
            "vscode",
            "codex",
            "zed",
            "opencode",
            "goose",
            "crush",
            "docker-agent",
            "openhands",
            "claude-plugin",
        ] {
            let host = HOSTS.iter().find(|row| row.id == host).unwrap();
            check(text, format, host, entries(&root, host));
        }
    }
}

/// Changes one entry.
fn change(
    text: &str,
    format: FileFormat,
    host: &Host,
    entry: &ServerEntry,
    step: EntryChange<'_>,
) -> Result<String, &'static str> {
    let root = Node::parse(text, format).map_err(|_| "not valid")?;
    let at = entries(&root, host).iter().position(|now| now.path == entry.path).ok_or("gone")?;
    let (after, outcomes) = edit::change(text, format, host, &root, &[(at, step)]);
    outcomes[0].map(|()| after)
}

fn check(text: &str, format: FileFormat, host: &Host, found: Vec<ServerEntry>) {
    let options = ["--log-dir".to_owned(), "C:\\Protokolle \"ü\"".to_owned()];
    let proxy = ProxyCommand { program: PROGRAM, options: &options };
    let _ = own_entry::remove(text, format, host);
    if let Ok(after) = own_entry::add(text, format, host, PROGRAM, &options) {
        assert_eq!(own_entry::remove(&after, format, host), Ok(Some(text.to_owned())), "{after}");
    }
    for entry in found.iter().take(20) {
        match entry.state {
            EntryState::Plain => {
                let Ok(wrapped) = change(text, format, host, entry, EntryChange::Wrap(&proxy)) else {
                    continue;
                };
                outside_is_untouched(text, &wrapped, format, entry);
                let root = Node::parse(&wrapped, format).unwrap();
                let now = entries(&root, host).into_iter().find(|now| now.path == entry.path).unwrap();
                let EntryState::Wrapped { program, edited, .. } = now.state else {
                    panic!("not seen as wrapped: {wrapped}");
                };
                assert_eq!((program.as_str(), edited), (PROGRAM, false), "{wrapped}");
                let undone = change(&wrapped, format, host, entry, EntryChange::Unwrap)
                    .unwrap_or_else(|reason| panic!("{reason}: {wrapped}"));
                assert_eq!(undone, text, "{wrapped}");
                rewritten_by_its_host(text, &wrapped, format, host, entry);
            }
            EntryState::Wrapped { .. } => {
                if let Ok(undone) = change(text, format, host, entry, EntryChange::Unwrap) {
                    outside_is_untouched(text, &undone, format, entry);
                }
            }
            EntryState::ByHand { .. } | EntryState::Own | EntryState::Remote | EntryState::Unsupported(_) => {
                assert!(change(text, format, host, entry, EntryChange::Unwrap).is_err());
            }
        }
    }
}

/// Returns the file as another parser sees it, if one exists for its format.
fn parsed(text: &str, format: FileFormat) -> Option<serde_json::Value> {
    match format {
        FileFormat::Json => serde_json::from_str(text).ok(),
        FileFormat::Toml => serde_json::to_value(toml::from_str::<toml::Table>(text).ok()?).ok(),
        FileFormat::Yaml => None,
    }
}

fn outside_is_untouched(before: &str, after: &str, format: FileFormat, entry: &ServerEntry) {
    let Some(mut old) = parsed(before, format) else { return };
    let mut new = parsed(after, format).unwrap_or_else(|| panic!("the edit made it unreadable: {after}"));
    for tree in [&mut old, &mut new] {
        let holder = entry.path.iter().try_fold(tree, |node, step| match step {
            PathStep::Key(key) => node.get_mut(key),
            PathStep::Index(index) => node.get_mut(index),
        });
        let holder = holder.and_then(serde_json::Value::as_object_mut);
        let Some(holder) = holder else { panic!("{:?} is gone: {after}", entry.path) };
        for name in ["command", "cmd", "args"] {
            holder.remove(name);
        }
    }
    assert_eq!(old, new, "{after}");
}

/// A host that writes its file anew, in its own style, still gets its entries back.
fn rewritten_by_its_host(before: &str, wrapped: &str, format: FileFormat, host: &Host, entry: &ServerEntry) {
    if format != FileFormat::Json {
        return;
    }
    let (Some(old), Some(value)) = (parsed(before, format), parsed(wrapped, format)) else { return };
    for text in [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
        let Ok(undone) = change(&text, format, host, entry, EntryChange::Unwrap) else { continue };
        assert_eq!(parsed(&undone, format).as_ref(), Some(&old), "{text}");
    }
}
