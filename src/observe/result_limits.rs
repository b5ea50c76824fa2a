//! How much of a tool's result hosts give to the model.

/// Clients that cut a longer result or keep it from the model, by the name in `clientInfo`, and the limit in tokens.
/// `docs/looking.md` names the sources. Hosts whose limit is not documented are not here.
const LIMITS: &[(&str, u64)] = &[
    ("claude-code", 25_000),
    ("codex-mcp-client", 10_000),
    // 50 KiB.
    ("opencode", 12_800),
];

/// Returns the limit of a client, in tokens.
pub(crate) fn of_client(name: &str) -> Option<u64> {
    LIMITS.iter().find(|(client, _)| *client == name).map(|(_, limit)| *limit)
}

/// Estimates the tokens in `bytes` of text, rounded up.
pub(crate) fn tokens(bytes: u64) -> u64 {
    bytes.div_ceil(4)
}
