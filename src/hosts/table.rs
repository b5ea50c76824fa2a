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
            "{linux-config}/Code/User/settings.json",
            "{linux-config}/Code - Insiders/User/mcp.json",
            "{linux-config}/Code - Insiders/User/profiles/*/mcp.json",
            "{linux-config}/VSCodium/User/mcp.json",
            "{flatpak}/com.visualstudio.code/config/Code/User/mcp.json",
            "{flatpak}/com.vscodium.codium/config/VSCodium/User/mcp.json",
            "~/.vscode-server/data/User/mcp.json",
            "~/.vscode-server-insiders/data/User/mcp.json",
            "{mac-support}/Code/User/mcp.json",
            "{mac-support}/Code/User/profiles/*/mcp.json",
            "{mac-support}/Code/User/settings.json",
            "{mac-support}/Code - Insiders/User/mcp.json",
            "{mac-support}/VSCodium/User/mcp.json",
            "{appdata}/Code/User/mcp.json",
            "{appdata}/Code/User/profiles/*/mcp.json",
            "{appdata}/Code/User/settings.json",
            "{appdata}/Code - Insiders/User/mcp.json",
            "{appdata}/VSCodium/User/mcp.json",
        ],
        project_files: &[".vscode/mcp.json", ".vscode/settings.json"],
        // The second and third are in `settings.json`: older versions, and the extension of Augment. The last is
        // in a dev container's file.
        keys: &[
            &["servers"],
            &["mcp", "servers"],
            &["augment.advanced", "mcpServers"],
            &["customizations", "vscode", "mcp", "servers"],
        ],
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
        user_files: &["~/.gemini/settings.json", "~/.gemini/extensions/*/gemini-extension.json"],
        project_files: &[".gemini/settings.json"],
        ..BASE
    },
    Host {
        id: "windsurf",
        name: "Windsurf",
        user_files: &["~/.codeium/windsurf/mcp_config.json", "~/.codeium/windsurf-next/mcp_config.json"],
        restart: "press refresh in the MCP panel",
        processes: &["windsurf", "Windsurf"],
        ..BASE
    },
    Host {
        id: "zed",
        name: "Zed",
        user_files: &[
            "{XDG_CONFIG_HOME:~/.config}/zed/settings.json",
            "{flatpak}/dev.zed.Zed/config/zed/settings.json",
            "{appdata}/Zed/settings.json",
        ],
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
            "{XDG_CONFIG_HOME:~/.config}/opencode/config.json",
        ],
        project_files: &[
            "opencode.json",
            "opencode.jsonc",
            ".opencode/opencode.json",
            ".opencode/opencode.jsonc",
        ],
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
        // A recipe has a list.
        project_files: &["recipe.yaml"],
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
        user_files: &["~/.kiro/settings/mcp.json", "~/.kiro/agents/*.json"],
        project_files: &[".kiro/settings/mcp.json", ".kiro/agents/*.json"],
        ..BASE
    },
    Host {
        id: "amazon-q",
        name: "Amazon Q Developer",
        user_files: &[
            "~/.aws/amazonq/default.json",
            "~/.aws/amazonq/mcp.json",
            "~/.aws/amazonq/cli-agents/*.json",
        ],
        project_files: &[".amazonq/default.json", ".amazonq/mcp.json", ".amazonq/cli-agents/*.json"],
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
    Host {
        id: "visual-studio",
        name: "Visual Studio",
        user_files: &["~/.mcp.json"],
        project_files: &[".mcp.json", ".vs/mcp.json"],
        keys: &[&["servers"]],
        restart: "start the server again in the list of tools",
        ..BASE
    },
    Host {
        id: "claude-plugin",
        name: "Claude Code plugin",
        project_files: &[".claude-plugin/plugin.json", ".mcp.json"],
        keys: &[&["mcpServers"], &[]],
        ..BASE
    },
    Host {
        id: "copilot-jetbrains",
        name: "Copilot for JetBrains",
        user_files: &[
            "{XDG_CONFIG_HOME:~/.config}/github-copilot/intellij/mcp.json",
            "{localappdata}/github-copilot/intellij/mcp.json",
        ],
        keys: &[&["servers"]],
        restart: "start the server again in the file",
        ..BASE
    },
    Host {
        id: "roo-code",
        name: "Roo Code",
        user_files: &[
            "{linux-config}/Code/User/globalStorage/rooveterinaryinc.roo-cline/settings/mcp_settings.json",
            "{mac-support}/Code/User/globalStorage/rooveterinaryinc.roo-cline/settings/mcp_settings.json",
            "{appdata}/Code/User/globalStorage/rooveterinaryinc.roo-cline/settings/mcp_settings.json",
        ],
        project_files: &[".roo/mcp.json"],
        restart: "restart the server in the MCP panel",
        ..BASE
    },
    Host {
        id: "kilo-code",
        name: "Kilo Code",
        user_files: &[
            "{linux-config}/Code/User/globalStorage/kilocode.kilo-code/settings/mcp_settings.json",
            "{mac-support}/Code/User/globalStorage/kilocode.kilo-code/settings/mcp_settings.json",
            "{appdata}/Code/User/globalStorage/kilocode.kilo-code/settings/mcp_settings.json",
            "~/.kilocode/cli/global/settings/mcp_settings.json",
        ],
        project_files: &[".kilocode/mcp.json"],
        restart: "restart the server in the MCP panel",
        ..BASE
    },
    Host {
        id: "kilo",
        name: "Kilo Code (kilo.json)",
        user_files: &[
            "{XDG_CONFIG_HOME:~/.config}/kilo/kilo.json",
            "{XDG_CONFIG_HOME:~/.config}/kilo/kilo.jsonc",
        ],
        project_files: &["kilo.json", "kilo.jsonc", ".kilo/kilo.json", ".kilo/kilo.jsonc"],
        keys: &[&["mcp"]],
        shape: EntryShape::OneList,
        ..BASE
    },
    Host {
        id: "antigravity",
        name: "Antigravity",
        user_files: &[
            "~/.gemini/config/mcp_config.json",
            "~/.gemini/antigravity/mcp_config.json",
            "~/.gemini/antigravity-cli/mcp_config.json",
        ],
        project_files: &[".agents/mcp_config.json"],
        restart: "press refresh under Manage MCP Servers, or start a new session",
        ..BASE
    },
    Host {
        id: "qwen-code",
        name: "Qwen Code",
        user_files: &["~/.qwen/settings.json"],
        project_files: &[".qwen/settings.json"],
        ..BASE
    },
    Host {
        id: "iflow",
        name: "iFlow CLI",
        user_files: &["~/.iflow/settings.json"],
        project_files: &[".iflow/settings.json"],
        ..BASE
    },
    Host {
        id: "factory",
        name: "Factory droid",
        user_files: &["~/.factory/mcp.json"],
        project_files: &[".factory/mcp.json"],
        ..BASE
    },
    Host { id: "kimi", name: "Kimi CLI", user_files: &["~/.kimi/mcp.json"], ..BASE },
    Host { id: "rovo-dev", name: "Rovo Dev", user_files: &["~/.rovodev/mcp.json"], ..BASE },
    Host { id: "omp", name: "omp", user_files: &["~/.omp/agent/mcp.json"], ..BASE },
    Host { id: "auggie", name: "Auggie", user_files: &["~/.augment/settings.json"], ..BASE },
    Host {
        id: "trae",
        name: "Trae",
        user_files: &[
            "{linux-config}/Trae/User/mcp.json",
            "{mac-support}/Trae/User/mcp.json",
            "{appdata}/Trae/User/mcp.json",
        ],
        project_files: &[".trae/mcp.json"],
        restart: "switch the server off and on in Settings > MCP",
        ..BASE
    },
    Host {
        id: "tabnine",
        name: "Tabnine",
        user_files: &["~/.tabnine/agent/settings.json"],
        project_files: &[".tabnine/agent/settings.json", ".tabnine/mcp_servers.json"],
        ..BASE
    },
    Host {
        id: "void",
        name: "Void",
        user_files: &["~/.void-editor/mcp.json"],
        restart: "nothing to do: it reloads the file when it changes",
        ..BASE
    },
    Host {
        id: "boltai",
        name: "BoltAI",
        user_files: &["~/.boltai/mcp.json"],
        restart: "quit it and start it again",
        ..BASE
    },
    Host {
        id: "firebase-studio",
        name: "Firebase Studio",
        project_files: &[".idx/mcp.json"],
        restart: "rebuild the workspace",
        ..BASE
    },
    Host {
        id: "anythingllm",
        name: "AnythingLLM",
        user_files: &[
            "{linux-config}/anythingllm-desktop/storage/plugins/anythingllm_mcp_servers.json",
            "{mac-support}/anythingllm-desktop/storage/plugins/anythingllm_mcp_servers.json",
            "{appdata}/anythingllm-desktop/storage/plugins/anythingllm_mcp_servers.json",
        ],
        restart: "press refresh on the page of agent skills",
        ..BASE
    },
    Host {
        id: "mcphub",
        name: "mcphub.nvim",
        user_files: &["{XDG_CONFIG_HOME:~/.config}/mcphub/servers.json"],
        restart: "nothing to do: it restarts a server whose settings change",
        ..BASE
    },
    Host {
        id: "crush",
        name: "Crush",
        user_files: &["{XDG_CONFIG_HOME:~/.config}/crush/crush.json"],
        project_files: &["crush.json", ".crush.json"],
        keys: &[&["mcp"]],
        processes: &["crush"],
        ..BASE
    },
    Host {
        id: "amp",
        name: "Amp",
        user_files: &[
            "{XDG_CONFIG_HOME:~/.config}/amp/settings.json",
            "{XDG_CONFIG_HOME:~/.config}/amp/settings.jsonc",
        ],
        project_files: &[".amp/settings.json", ".amp/settings.jsonc"],
        keys: &[&["amp.mcpServers"]],
        processes: &["amp"],
        ..BASE
    },
    Host {
        id: "vibe",
        name: "Mistral Vibe",
        user_files: &["{VIBE_HOME:~/.vibe}/config.toml"],
        project_files: &[".vibe/config.toml"],
        keys: &[&["mcp_servers"]],
        processes: &["vibe"],
        ..BASE
    },
    Host {
        id: "hermes",
        name: "Hermes",
        user_files: &["~/.hermes/config.yaml"],
        keys: &[&["mcp_servers"]],
        restart: "type /reload-mcp",
        ..BASE
    },
    Host {
        id: "openhands",
        name: "OpenHands",
        user_files: &["~/.openhands/mcp.json", "~/.openhands/config.toml"],
        keys: &[&["mcpServers"], &["mcp", "stdio_servers"]],
        ..BASE
    },
    Host {
        id: "openclaw",
        name: "OpenClaw",
        user_files: &["~/.openclaw/openclaw.json"],
        keys: &[&["mcp", "servers"]],
        restart: "restart the gateway",
        ..BASE
    },
    Host {
        id: "fast-agent",
        name: "fast-agent",
        project_files: &["fastagent.config.yaml", ".fast-agent/fastagent.config.yaml"],
        keys: &[&["mcp", "servers"]],
        ..BASE
    },
    Host {
        id: "mcp-agent",
        name: "mcp-agent",
        project_files: &["mcp_agent.config.yaml"],
        keys: &[&["mcp", "servers"]],
        ..BASE
    },
    Host {
        id: "librechat",
        name: "LibreChat",
        project_files: &["librechat.yaml"],
        restart: "restart its container",
        ..BASE
    },
    Host {
        id: "docker-agent",
        name: "Docker Agent",
        project_files: &["cagent.yaml", "docker-agent.yaml"],
        keys: &[&["agents", "*", "toolsets"], &["mcps"]],
        ..BASE
    },
    // Other programs that read such a file: Inspector, FastMCP, mcporter, scripts.
    Host { id: "other", name: "an mcpServers file", ..BASE },
];

pub fn host(id: &str) -> Option<&'static Host> {
    HOSTS.iter().find(|host| host.id == id)
}
