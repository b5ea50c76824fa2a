//! The settings with which a program sends its telemetry to the collector.

use serde_json::{Value, json};

use crate::system::process;

/// A program that sends telemetry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Sender {
    ClaudeCode,
    Codex,
    GeminiCli,
    Opencode,
    Vscode,
    /// An MCP server that exports by itself
    Server,
}

/// Placeholder of the token, which is not printed.
const TOKEN: &str = "TOKEN";

/// Returns the lines for the settings of `sender`: where they belong, and what they are. `endpoint` is the URL of the
/// collector without a path.
pub(crate) fn lines(sender: Sender, endpoint: &str, needs_token: bool) -> String {
    match sender {
        Sender::ClaudeCode => claude_code(endpoint, needs_token),
        Sender::Codex => codex(endpoint, needs_token),
        Sender::GeminiCli => gemini_cli(endpoint, needs_token),
        Sender::Opencode => opencode(endpoint, needs_token),
        Sender::Vscode => vscode(endpoint, needs_token),
        Sender::Server => {
            let mut variables = vec![("OTEL_TRACES_EXPORTER", "otlp".to_owned())];
            variables.extend(standard(endpoint, needs_token));
            let entry = pretty(&json!({ "env": object(&variables) }));
            block("the server's entry in the config file of its host", &entry)
        }
    }
}

fn claude_code(endpoint: &str, needs_token: bool) -> String {
    let mut variables = vec![
        ("CLAUDE_CODE_ENABLE_TELEMETRY", "1".to_owned()),
        ("CLAUDE_CODE_ENHANCED_TELEMETRY_BETA", "1".to_owned()),
        ("OTEL_TRACES_EXPORTER", "otlp".to_owned()),
        ("OTEL_LOGS_EXPORTER", "otlp".to_owned()),
        ("OTEL_METRICS_EXPORTER", "none".to_owned()),
        // Names of MCP servers and tools. Arguments go with them; spantap does not record those.
        ("OTEL_LOG_TOOL_DETAILS", "1".to_owned()),
    ];
    variables.extend(standard(endpoint, needs_token));
    block("~/.claude/settings.json", &pretty(&json!({ "env": object(&variables) })))
}

fn codex(endpoint: &str, needs_token: bool) -> String {
    let headers = match needs_token {
        true => format!(", headers = {{ \"authorization\" = \"Bearer {TOKEN}\" }}"),
        false => String::new(),
    };
    let to = |signal| {
        let url = format!("{endpoint}/v1/{signal}");
        format!("{{ otlp-http = {{ endpoint = \"{url}\", protocol = \"binary\"{headers} }} }}")
    };
    let exporters = format!("exporter = {}\ntrace_exporter = {}", to("logs"), to("traces"));
    block("~/.codex/config.toml", &format!("[otel]\nlog_user_prompt = false\n{exporters}"))
}

fn gemini_cli(endpoint: &str, needs_token: bool) -> String {
    let telemetry = json!({
        "enabled": true,
        "target": "local",
        "otlpEndpoint": endpoint,
        "otlpProtocol": "http",
        "logPrompts": false,
    });
    let mut variables = vec![("GEMINI_TELEMETRY_TRACES_ENABLED", "true".to_owned())];
    variables.extend(token_variable(needs_token));
    let settings = block("~/.gemini/settings.json", &pretty(&json!({ "telemetry": telemetry })));
    settings + "\n" + &block("~/.gemini/.env", &assignments(&variables))
}

fn opencode(endpoint: &str, needs_token: bool) -> String {
    // Without this, opencode sends no spans of its model calls.
    let settings = json!({ "experimental": { "openTelemetry": true } });
    let mut variables = standard(endpoint, needs_token);
    // opencode exits without a flush. Its default of 5 s would lose the last model calls of `opencode run`.
    variables.push(("OTEL_BSP_SCHEDULE_DELAY", "100".to_owned()));
    let settings = block("~/.config/opencode/opencode.json", &pretty(&settings));
    settings + "\n" + &block(process::PLACE_OF_COMMANDS, &commands(&variables))
}

fn vscode(endpoint: &str, needs_token: bool) -> String {
    let settings = json!({
        "github.copilot.chat.otel.enabled": true,
        "github.copilot.chat.otel.exporterType": "otlp-http",
        "github.copilot.chat.otel.otlpEndpoint": endpoint,
        "github.copilot.chat.otel.captureContent": false,
    });
    let settings = block("settings.json of VS Code (Preferences: Open User Settings)", &pretty(&settings));
    match token_variable(needs_token) {
        None => settings,
        Some(variable) => settings + "\n" + &block("the environment of VS Code", &commands(&[variable])),
    }
}

/// Returns the variables of the OpenTelemetry specification.
fn standard(endpoint: &str, needs_token: bool) -> Vec<(&'static str, String)> {
    let mut variables = vec![
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf".to_owned()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.to_owned()),
    ];
    variables.extend(token_variable(needs_token));
    variables
}

fn token_variable(needs_token: bool) -> Option<(&'static str, String)> {
    // A blank is written as the specification of baggage asks.
    needs_token.then(|| ("OTEL_EXPORTER_OTLP_HEADERS", format!("authorization=Bearer%20{TOKEN}")))
}

fn object(variables: &[(&str, String)]) -> Value {
    variables.iter().map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str()))).collect()
}

fn assignments(variables: &[(&str, String)]) -> String {
    let lines: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    lines.join("\n")
}

/// Returns the commands of a terminal that set these variables.
fn commands(variables: &[(&str, String)]) -> String {
    let lines: Vec<String> =
        variables.iter().map(|(name, value)| process::command_to_set(name, value)).collect();
    lines.join("\n")
}

fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

/// Returns the lines with a line before them that names their place.
fn block(place: &str, lines: &str) -> String {
    format!("# {place}\n{lines}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    /// Returns the content of each block of `text`, without the line of its place.
    fn blocks(text: &str) -> Vec<String> {
        let blocks =
            text.split("# ").skip(1).map(|block| block.split_once('\n').unwrap().1.trim().to_owned());
        blocks.collect()
    }

    #[test]
    fn the_lines_are_valid_where_they_belong() {
        for sender in Sender::value_variants() {
            for needs_token in [false, true] {
                let text = lines(*sender, "http://127.0.0.1:4318", needs_token);
                assert!(text.contains("http://127.0.0.1:4318"), "{text}");
                assert_eq!(text.contains(TOKEN), needs_token, "{text}");
                for block in blocks(&text) {
                    let is_json = serde_json::from_str::<Value>(&block).is_ok();
                    let is_toml =
                        block.starts_with("[otel]") && toml::from_str::<toml::Table>(&block).is_ok();
                    let is_shell = block.lines().all(|line| {
                        let is_command = ["export ", "setx "].iter().any(|word| line.starts_with(word));
                        is_command || line.contains('=') && !line.contains(['{', ' '])
                    });
                    assert!(is_json || is_toml || is_shell, "{block}");
                }
            }
        }
    }
}
