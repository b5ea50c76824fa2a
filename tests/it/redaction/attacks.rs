//! Known ways around the rules: line ends, windows that cut, commands within commands.

use std::ffi::OsString;

use spantap::observe::mcp::Content;
use spantap::observe::message::free_text;
use spantap::observe::redact::{Field, Redactor};

#[test]
fn a_line_break_between_a_name_and_its_value_hides_nothing() {
    for text in [
        "{\n  \"api_key\":\n    \"hunter2horse\"\n}",
        "{\"password\":\r\n \"hunter2horse\"}",
        "{\"password\" :\n\n\"hunter2horse\"}",
        "password:\n  hunter2horse\n",
        "db:\n  password:\n    hunter2horse",
    ] {
        let redacted = Redactor::default().redact(Field::Message, text.as_bytes());
        assert!(!redacted.as_str().contains("hunter2"), "{text:?}: {redacted}");
        let (explained, _) = Redactor::default().explain(text.as_bytes());
        assert!(!explained.as_str().contains("hunter2"), "{text:?}: {explained}");
    }
    for text in ["tokens:\n  input: 512", "password:\n  - at least 8 characters", "Password:\nsee below"] {
        let (explained, findings) = Redactor::default().explain(text.as_bytes());
        assert!(findings.is_empty(), "{explained}");
    }
}

#[test]
fn what_servers_are_commonly_started_with_is_hidden_in_the_command() {
    const SECRET: &str = "Zq7hunterW";
    for command in [
        &["npx", "-y", "@smithery/cli", "run", "x", "--key", SECRET] as &[&str],
        &["server", "--pat", SECRET],
        &["server", "--auth", SECRET],
        &["server", "--auth", "elastic:Zq7hunterW"],
        &["server", "--auth=elastic:Zq7hunterW", "--session", "bob:Zq7hunterW"],
        &["server", "--service-role-key", SECRET],
        &["server", "--stripe-key", SECRET],
        &["server", "--key", "hunter4W/Zq7kP2vR9tX+mQ=="],
        &["server", "--user", "bob:Zq7hunterW"],
        &["curl", "-u", "hunter:123456", "https://h/"],
        &["curl", "--user", "hunter:hunter", "https://h/"],
        &["server", "--user", "hunter:123456"],
        &["server", "postgresql://u:a/Zq7hunterW@h/db"],
        &["server", "postgresql://u:a#Zq7hunterW@h/db"],
        &["server", "mysql://u:a?Zq7hunterW@h/db"],
        &["server", "--key=Zq7hunterW", "--user=bob:Zq7hunterW", "--pat=Zq7hunterW"],
        &["server", "--auth=Zq7hunterW", "--stripe-key=Zq7hunterW", "--password=hunter", "-token=hunter"],
        &["sh", "-c", "exec sshpass -p Zq7hunterW true"],
        &["sh", "-c", "exec server --key Zq7hunterW --user bob:Zq7hunterW --pat=Zq7hunterW"],
        &["sh", "-c", "curl -u hunter:Zq7hunterW https://h/ --stripe-key Zq7hunterW"],
        &["server", "--key", "/Zq7kP2vR9tX+hunter4W/mQ3yL8nB=="],
        &["sh", "-c", "mysql -uroot -pZq7hunterW db"],
        &["server", "--session", SECRET],
        &["server", "--license", SECRET],
        &["server", "-u", "bob:Zq7hunterW"],
        &["java", "-Dtoken=Zq7hunterW", "-Dacme.api.token=hunter", "-Dacme.auth.key=Zq7hunterW"],
        &["gradle", "-Psigning.password=hunter", "publish"],
        &["env", "CLIENT_API=Zq7hunterW", "APP_SALT=Zq7hunterW", "server"],
        &["bash", "-c", "PASSWORD=$(echo hunter) server"],
        &["bash", "-c", "TOKEN=`printf %s hunter` server"],
        &["sh", "-c", "echo hunter | server --token-stdin"],
        &["pwsh", "-c", "ConvertTo-SecureString \"hunter\" -AsPlainText -Force"],
        &["fish", "-c", "set -x API_TOKEN hunter; server"],
        &["csh", "-c", "setenv API_TOKEN hunter; server"],
        &[r"C:\Program Files\MySQL\bin\MySQL.exe", "-phunter"],
        &["cmd", "/c", r".\7z.EXE x a.7z -phunter"],
        &["npx", "mcp-remote", "https://mcp.zapier.com/api/mcp/s/Zq7hunterWZq7hunterW/mcp"],
        &["npx", "mcp-remote", "https://actions.zapier.com/mcp/sk-ak-Zq7hunterWZq7hunterW/sse"],
    ] {
        let arguments: Vec<OsString> = command.iter().map(OsString::from).collect();
        let cleaned = format!("{:?}", Redactor::default().redact_argv(&arguments));
        assert!(!cleaned.contains("hunter"), "{command:?}: {cleaned}");
    }
    for command in [
        &["docker", "run", "--user", "1000:1000", "-i", "image"] as &[&str],
        &["server", "--key", "/etc/ssl/server1.key", "--auth", "none", "--primary-key", "id"],
        &["server", "--key", "/home/alice/.ssh/id_ed25519", "--tls-key", "./certs/prod-2024/server-key.pem"],
        &[
            "server",
            "--ssl-key=/etc/letsencrypt/live/mcp2.example.com/privkey.pem",
            "--key=C:\\certs\\a1.pem",
        ],
        &["server", "--cache-key", "node:20.1", "--auth", "bearer:none", "--key", "app:staff"],
        &["server", "--session", "default", "--license", "MIT", "-u", "1000:1000", "-Dfile.encoding=UTF-8"],
        &["sh", "-c", "TOKEN=$(pass show db) server --token $TOKEN"],
        &["server", "postgresql://localhost/db", "https://github.com/@scope/package"],
        &["sh", "-c", "exec  npx  -y server -p 80"],
    ] {
        let arguments: Vec<OsString> = command.iter().map(OsString::from).collect();
        let cleaned: Vec<String> =
            Redactor::default().redact_argv(&arguments).iter().map(ToString::to_string).collect();
        assert_eq!(cleaned, command, "nothing to hide");
    }
}

#[test]
fn the_note_of_a_cut_is_not_the_value_of_the_name_before_it() {
    for room in 470..500 {
        let message = format!("{} password=abc123def456ghi789", "x".repeat(room));
        let cut = Redactor::default().redact(Field::Message, message.as_bytes()).to_string();
        for text in [cut.clone(), format!("{cut}\n"), format!("- {cut} (twice)")] {
            let (explained, findings) = Redactor::default().explain(text.as_bytes());
            assert!(findings.is_empty(), "{text}: {explained}");
        }
    }
}

#[test]
fn a_secret_that_the_window_cuts_in_two_is_not_shown_by_half() {
    // The text is so long that the window ends in the token, which must not be shown.
    let key = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", "MIIEvQ".repeat(750));
    let token = "hunterhunter7Zq7hunterWhunterhunter7Zq7hunterWhunterhunter7";
    let near = |size: usize| format!("{} {token}", "\u{1b}[0m".repeat(size / 4));
    for text in [format!("{key}token={token}"), near(4_540), near(12_240)] {
        for size in 0..40 {
            let text = format!("{}{text}", "\u{1b}[0m".repeat(size));
            let content = serde_json::json!([{ "type": "text", "text": text }]).to_string();
            for window in [4_596, 12 << 10] {
                let shown = Content::new(content.as_bytes()).summary(window);
                let is_whole = shown.contains(token);
                assert!(is_whole || !shown.contains("hunter"), "{window}: {:?}", &shown[shown.len() - 80..]);
            }
        }
    }
    let long = format!("{{\"error\":\"{}\\t“4111 {token}", "x".repeat(100));
    let cut = &long.as_bytes()[9..long.len() - 20];
    let text = String::from_utf8(free_text(cut).into_owned()).unwrap();
    assert!(text.ends_with("\t“4111"), "{text}");
}
