//! The table of hosts: one row per host, no code.

/// A host: where its config files are and how they contain servers.
#[derive(Debug)]
pub struct Host {
    /// Name on the command line.
    pub id: &'static str,
    /// Name that is shown to users.
    pub name: &'static str,
    /// Files of the user. The first part may be a token of [`crate::hosts::locate`]; a `*` matches any name.
    pub user_files: &'static [&'static str],
    /// Files of a project, relative to the project's folder.
    pub project_files: &'static [&'static str],
    /// Keys that lead to the servers in the file; a `*` matches any key.
    pub keys: &'static [&'static [&'static str]],
    pub shape: EntryShape,
    /// Action that makes the host read its file again.
    pub restart: &'static str,
    /// Names of its processes, if known.
    pub processes: &'static [&'static str],
    /// True if the running host writes its own version of the file back, so that an edit would be lost.
    pub writes_back: bool,
}

/// Form of a command in an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryShape {
    /// `command` is a string, `args` a list. A map with `path` and `args` under `command` is the same.
    CommandAndArgs,
    /// `command` is a list with the program and its arguments.
    OneList,
    /// `cmd` is a string, `args` a list.
    CmdAndArgs,
}

impl EntryShape {
    /// Returns the names of the members with the command and with its arguments. They may be the same.
    pub(super) fn keys(self) -> (&'static str, &'static str) {
        match self {
            EntryShape::CommandAndArgs => ("command", "args"),
            EntryShape::OneList => ("command", "command"),
            EntryShape::CmdAndArgs => ("cmd", "args"),
        }
    }
}

const MCP_SERVERS: &[&[&str]] = &[&["mcpServers"]];

const BASE: Host = Host {
    id: "",
    name: "",
    user_files: &[],
    project_files: &[],
    keys: MCP_SERVERS,
    shape: EntryShape::CommandAndArgs,
    restart: "start a new session",
    processes: &[],
    writes_back: false,
};

/// All known hosts, the most used first.
pub const HOSTS: &[Host] = &[
    Host {
        id: "claude-desktop",
        name: "Claude Desktop",
        user_files: &[
            "{mac-support}/Claude/claude_desktop_config.json",
            "{appdata}/Claude/claude_desktop_config.json",
            "{localappdata}/Packages/Claude_*/LocalCache/Roaming/Claude/claude_desktop_config.json",
            "{linux-config}/Claude/claude_desktop_config.json",
        ],
        restart: "quit it from its tray or menu-bar icon and start it again; closing the window is not enough",
        processes: &["Claude", "claude-desktop"],
        writes_back: true,
        ..BASE
    },
    Host {
        id: "claude-code",
        name: "Claude Code",
        user_files: &["{CLAUDE_CONFIG_DIR:~}/.claude.json"],
        project_files: &[".mcp.json"],
        keys: &[&["mcpServers"], &["projects", "*", "mcpServers"]],
        restart: "start a new session; a session that runs now may write its own version back when it ends, \
                  so check `spantap status` again",
        processes: &["claude"],
        ..BASE
    },
    Host {
        id: "cursor",
        name: "Cursor",
        user_files: &["~/.cursor/mcp.json"],
        project_files: &[".cursor/mcp.json"],
        restart: "switch the server off and on in Settings > MCP",
        processes: &["cursor", "Cursor"],
        ..BASE
    },
    Host {
        id: "vscode",
        name: "VS Code",
        user_files: &[
            "{linux-config}/Code/User/mcp.json",
            "{linux-config}/Code/User/profiles/*/mcp.json",
            "{linux-config}/Code - Insiders/User/mcp.json",
            "{linux-config}/Code - Insiders/User/profiles/*/mcp.json",
            "~/.vscode-server/data/User/mcp.json",
            "~/.vscode-server-insiders/data/User/mcp.json",
            "{mac-support}/Code/User/mcp.json",
            "{mac-support}/Code/User/profiles/*/mcp.json",
            "{mac-support}/Code - Insiders/User/mcp.json",
            "{appdata}/Code/User/mcp.json",
            "{appdata}/Code/User/profiles/*/mcp.json",
            "{appdata}/Code - Insiders/User/mcp.json",
        ],
        project_files: &[".vscode/mcp.json"],
        keys: &[&["servers"]],
        restart: "run 'MCP: List Servers' and restart the server; it may ask again whether to trust it",
        processes: &["code", "code-insiders", "Code"],
        ..BASE
    },
    Host {
        id: "codex",
        name: "Codex",
        user_files: &["{CODEX_HOME:~/.codex}/config.toml"],
        project_files: &[".codex/config.toml"],
        keys: &[&["mcp_servers"]],
        processes: &["codex"],
        ..BASE
    },
    Host {
        id: "gemini-cli",
        name: "Gemini CLI",
        user_files: &["~/.gemini/settings.json"],
        project_files: &[".gemini/settings.json"],
        ..BASE
    },
    Host {
        id: "windsurf",
        name: "Windsurf",
        user_files: &["~/.codeium/windsurf/mcp_config.json"],
        restart: "press refresh in the MCP panel",
        processes: &["windsurf", "Windsurf"],
        ..BASE
    },
    Host {
        id: "zed",
        name: "Zed",
        user_files: &["{XDG_CONFIG_HOME:~/.config}/zed/settings.json", "{appdata}/Zed/settings.json"],
        project_files: &[".zed/settings.json"],
        keys: &[&["context_servers"]],
        restart: "nothing to do: it restarts a server whose settings change",
        processes: &["zed-editor", "zed"],
        ..BASE
    },
    Host {
        id: "opencode",
        name: "opencode",
        user_files: &[
            "{XDG_CONFIG_HOME:~/.config}/opencode/opencode.json",
            "{XDG_CONFIG_HOME:~/.config}/opencode/opencode.jsonc",
        ],
        project_files: &["opencode.json", "opencode.jsonc"],
        keys: &[&["mcp"]],
        shape: EntryShape::OneList,
        processes: &["opencode"],
        ..BASE
    },
    Host {
        id: "copilot-cli",
        name: "Copilot CLI",
        user_files: &["{COPILOT_HOME:~/.copilot}/mcp-config.json"],
        project_files: &[".github/mcp.json"],
        processes: &["copilot"],
        ..BASE
    },
    Host {
        id: "goose",
        name: "goose",
        user_files: &[
            "{XDG_CONFIG_HOME:~/.config}/goose/config.yaml",
            "{appdata}/Block/goose/config/config.yaml",
        ],
        keys: &[&["extensions"]],
        shape: EntryShape::CmdAndArgs,
        processes: &["goose", "goosed"],
        ..BASE
    },
    Host {
        id: "continue",
        name: "Continue",
        user_files: &["~/.continue/config.yaml"],
        project_files: &[
            ".continue/mcpServers/*.yaml",
            ".continue/mcpServers/*.yml",
            ".continue/mcpServers/*.json",
        ],
        restart: "reload the window",
        ..BASE
    },
    Host {
        id: "cline",
        name: "Cline",
        user_files: &[
            "{linux-config}/Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json",
            "{mac-support}/Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json",
            "{appdata}/Code/User/globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json",
            "~/.cline/data/settings/cline_mcp_settings.json",
        ],
        restart: "restart the server in the MCP panel",
        ..BASE
    },
    Host {
        id: "kiro",
        name: "Kiro",
        user_files: &["~/.kiro/settings/mcp.json"],
        project_files: &[".kiro/settings/mcp.json"],
        ..BASE
    },
    Host {
        id: "amazon-q",
        name: "Amazon Q Developer",
        user_files: &["~/.aws/amazonq/default.json", "~/.aws/amazonq/mcp.json"],
        project_files: &[".amazonq/default.json", ".amazonq/mcp.json"],
        ..BASE
    },
    Host {
        id: "lm-studio",
        name: "LM Studio",
        user_files: &["~/.lmstudio/mcp.json"],
        restart: "nothing to do: it reloads the file when it changes",
        ..BASE
    },
    Host {
        id: "junie",
        name: "Junie",
        user_files: &["~/.junie/mcp/mcp.json"],
        project_files: &[".junie/mcp/mcp.json"],
        ..BASE
    },
    Host {
        id: "warp",
        name: "Warp",
        user_files: &["~/.warp/.mcp.json"],
        project_files: &[".warp/.mcp.json"],
        ..BASE
    },
    // Other programs that read such a file: Inspector, FastMCP, mcporter, scripts.
    Host { id: "other", name: "an mcpServers file", ..BASE },
];

pub fn host(id: &str) -> Option<&'static Host> {
    HOSTS.iter().find(|host| host.id == id)
}
