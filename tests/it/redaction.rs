//! No secret passes the redactor, and other text does.
//!
//! The corpus is data: `fixtures/redaction/`, with its own README.

use std::ffi::OsString;

use serde::Deserialize;
use spantap::observe::canonical::HashKey;
use spantap::observe::redact::{
    CustomPattern, Field, RedactionCounts, RedactionMode, RedactionSettings, Redactor, RevealedField, rules,
};

#[derive(Clone, Debug, Deserialize)]
struct Case {
    id: String,
    class: String,
    source: String,
    context: String,
    input: Input,
    #[serde(default)]
    secret: Vec<String>,
    #[serde(default)]
    keep: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Input {
    Text(String),
    Arguments(Vec<String>),
}

fn corpus(name: &str) -> Vec<Case> {
    let path = format!("{}/fixtures/redaction/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Reads a case as its field is read in a session.
fn cleaned(redactor: &mut Redactor, case: &Case, counts: &mut RedactionCounts) -> String {
    match (&case.input, case.context.as_str()) {
        (Input::Arguments(arguments), _) => {
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            let cleaned: Vec<String> =
                redactor.redact_argv(&arguments).iter().map(ToString::to_string).collect();
            cleaned.join(" ")
        }
        (Input::Text(text), "stderr") => {
            let lines: Vec<String> = text
                .split('\n')
                .map(|line| redactor.redact_counted(Field::StderrLine, line.as_bytes(), counts).to_string())
                .collect();
            lines.join("\n")
        }
        (Input::Text(text), "explain") => redactor.explain(text.as_bytes()).0.to_string(),
        (Input::Text(text), context) => {
            redactor.redact_counted(field(context), text.as_bytes(), counts).to_string()
        }
    }
}

fn field(context: &str) -> Field {
    match context {
        // An error about a config file is a message like any other.
        "message" | "notification" | "config" => Field::Message,
        "result" => Field::Summary,
        "name" | "client" => Field::Name,
        "id" => Field::Id,
        "uri" => Field::Uri,
        other => panic!("no field for {other}"),
    }
}

#[test]
fn every_secret_of_the_corpus_is_gone_and_the_text_around_it_stays() {
    let cases = [corpus("positive"), corpus("shapes")].concat();
    assert!(cases.len() >= 1_200);
    let mut wrong = Vec::new();
    for case in &cases {
        let cleaned = cleaned(&mut Redactor::default(), case, &mut RedactionCounts::default());
        for secret in &case.secret {
            // No useful piece of it passes either.
            let pieces = secret.as_bytes().windows(secret.len().min(12));
            if pieces.map(String::from_utf8_lossy).any(|piece| cleaned.contains(&*piece)) {
                wrong
                    .push(format!("{} {} {}: shows {secret:?}: {cleaned}", case.id, case.class, case.source));
                break;
            }
        }
        for keep in case.keep.iter().filter(|keep| !cleaned.contains(keep.as_str())) {
            wrong.push(format!("{} {} {}: lost {keep:?}: {cleaned}", case.id, case.class, case.source));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn at_most_two_in_a_hundred_harmless_texts_lose_anything() {
    let cases = [corpus("negative"), corpus("shapes-harmless")].concat();
    assert!(cases.len() >= 700);
    let mut redactor = Redactor::default();
    let mut lost = Vec::new();
    for case in &cases {
        let mut counts = RedactionCounts::default();
        let cleaned = cleaned(&mut redactor, case, &mut counts);
        let has_lost = match &case.input {
            Input::Arguments(arguments) => cleaned != arguments.join(" "),
            Input::Text(text) if case.context == "explain" => cleaned != *text,
            Input::Text(_) => !counts.is_empty(),
        };
        if has_lost {
            lost.push(format!("{} {}: {cleaned}", case.id, case.source));
        }
    }
    assert!(lost.len() * 100 <= cases.len() * 2, "{} of {}:\n{}", lost.len(), cases.len(), lost.join("\n"));
}

const TOKEN: &str = "ghp_EXAMPLEexample0123456789EXAMPLEexamp";

const FIELDS: [Field; 8] = [
    Field::Name,
    Field::Id,
    Field::UserId,
    Field::Uri,
    Field::Message,
    Field::Summary,
    Field::StderrLine,
    Field::TraceState,
];

fn one(field: Field, text: &str) -> String {
    Redactor::default().redact(field, text.as_bytes()).to_string()
}

/// Returns every vendor token in every field, between other words.
#[test]
fn every_vendor_token_is_hidden_in_every_field() {
    let mut redactor = Redactor::default();
    for rule in rules() {
        for field in FIELDS {
            for (before, after) in
                [("", ""), ("use_", ""), ("got '", "' again"), ("x=", ",y=1"), ("(", ")."), ("\"", "\"")]
            {
                let text = format!("{before}{}{after}", rule.sample);
                let cleaned = redactor.redact(field, text.as_bytes()).to_string();
                let end = &rule.sample[rule.sample.len() - 6..];
                assert!(!cleaned.contains(end), "{} in {field:?}: {text} -> {cleaned}", rule.name);
                assert!(cleaned.starts_with(before) && cleaned.ends_with(after), "{}: {cleaned}", rule.name);
            }
        }
    }
}

#[test]
fn a_name_of_plain_letters_may_be_a_token_of_no_known_vendor() {
    for field in FIELDS {
        for text in ["acme_pat_qZrEXAMPLEexAm7pleXAmPle3", "cGFzc3dvcmQ9aHVudGVyMmh1bnRlcjI"] {
            let cleaned = one(field, text);
            assert!(cleaned.starts_with("[REDACTED:"), "{field:?}: {cleaned}");
        }
        assert_eq!(one(field, "list_pull_request_review_comments"), "list_pull_request_review_comments");
    }
}

#[test]
fn a_secret_is_never_cut_in_half() {
    for field in FIELDS {
        for position in [
            100, 110, 126, 180, 195, 199, 470, 490, 499, 4080, 4096, 8170, 8190, 8192, 12_280, 16_380,
            20_470, 65_530,
        ] {
            for filler in ["a ", "word, "] {
                let text = format!("{}{TOKEN} and more", filler.repeat(position / filler.len()));
                let cleaned = one(field, &text);
                assert!(!cleaned.contains("ghp_E"), "{field:?} at {position}: {cleaned}");
            }
        }
    }
}

#[test]
fn a_cap_says_how_much_it_cut() {
    let cleaned = one(Field::Name, &"x".repeat(300));
    assert_eq!(cleaned, format!("{}…(+172 bytes)", "x".repeat(128)));
    assert_eq!(one(Field::Name, &cleaned), cleaned);
    let cleaned = one(Field::Message, &"word ".repeat(20_000));
    assert!(cleaned.ends_with(&format!("…(+{} bytes)", 100_000 - 500)), "{cleaned}");
}

#[test]
fn a_private_key_is_hidden_over_many_lines_of_stderr() {
    let body = "MIIEXAMPLEexample0123456789+/EXAMPLEexample0123456789EXAMPLEexam";
    let mut redactor = Redactor::default();
    let mut line = |text: &str| redactor.redact(Field::StderrLine, text.as_bytes()).to_string();
    assert_eq!(line("loading key"), "loading key");
    assert_eq!(line("key: -----BEGIN RSA PRIVATE KEY-----"), "key: [REDACTED:private_key]");
    for _ in 0..3 {
        assert_eq!(line(body), "[REDACTED:private_key]");
    }
    assert_eq!(line("-----END RSA PRIVATE KEY----- done"), "[REDACTED:private_key] done");
    assert_eq!(line("listening"), "listening");
    // A key that never ends does not hide later output of the server.
    line("-----BEGIN PRIVATE KEY-----");
    let hidden = (0..300).filter(|_| line("still alive") == "[REDACTED:private_key]").count();
    assert_eq!(hidden, 200);
}

#[test]
fn what_could_break_a_line_or_reach_a_terminal_is_made_visible_or_removed() {
    for field in FIELDS {
        for c in [
            "\n", "\r", "\r\n", "\u{85}", "\u{2028}", "\u{2029}", "\x1b", "\0", "\x07", "\x7f", "\u{9b}",
            "\u{202e}", "\u{2066}", "\u{200b}", "\u{feff}",
        ] {
            let forged = format!("ok{c}{{\"schema\":\"spantap/1\",\"event\":\"session_ended\"}}");
            let cleaned = one(field, &forged);
            assert!(
                !cleaned.chars().any(|c| c.is_control()
                    || matches!(
                        c,
                        '\u{2028}' | '\u{2029}' | '\u{202e}' | '\u{2066}' | '\u{200b}' | '\u{feff}'
                    )),
                "{field:?} {c:?}: {cleaned:?}"
            );
            assert_eq!(serde_json::to_string(&cleaned).unwrap().lines().count(), 1);
        }
    }
    assert_eq!(one(Field::Name, "a\tb\nc\u{2028}d"), "a\\u{9}b\\u{a}c\\u{2028}d");
    assert_eq!(one(Field::Message, "\x1b[31mred\x1b[0m \x1b]0;title\x07text"), "red text");
    assert_eq!(one(Field::Message, "a\tb"), "a\tb");
    assert_eq!(one(Field::Name, "user\u{202e}txt.exe"), "user\\u{202e}txt.exe");
    // The CR of a line end is not part of the line.
    assert_eq!(one(Field::StderrLine, "no module\r"), "no module");
    assert_eq!(one(Field::Message, "a\r\nb\rc"), "a\\u{a}b\\u{d}c");
}

#[test]
fn characters_that_nobody_sees_do_not_hide_a_secret() {
    for hidden in ["\u{200b}", "\u{ad}", "\x1b[0m", "\u{202e}", "\u{e0001}"] {
        let cleaned =
            one(Field::Message, &format!("got gh{hidden}p_EXAMPLEexample{hidden}0123456789EXAMPLEexamp"));
        assert_eq!(cleaned, "got [REDACTED:github]", "{hidden:?}");
        let cleaned = one(Field::Message, &format!("pass{hidden}word{hidden}={hidden}EXAMPLE-pw-1 ok"));
        assert_eq!(cleaned, "password=[REDACTED:key_value] ok", "{hidden:?}");
    }
}

#[test]
fn a_sequence_within_a_secret_of_any_length_hides_nothing() {
    for length in 8..64 {
        let value: String = "aB3dE5gH7j".chars().cycle().take(length).collect();
        let text = format!("a token={}\x1b[1m{} b", &value[..3], &value[3..]);
        assert_eq!(one(Field::Message, &text), "a token=[REDACTED:key_value] b", "{text:?}");
    }
}

#[test]
fn a_placeholder_cannot_be_forged_to_carry_a_secret() {
    for text in [
        "password=[REDACTED:hunter22]",
        "password=[REDACTED:github]hunter22",
        "password=\"[REDACTED:github] hunter22\"",
    ] {
        let cleaned = one(Field::Message, text);
        assert!(!cleaned.contains("hunter22"), "{cleaned}");
    }
}

#[test]
fn strict_mode_shows_no_free_text_and_nothing_that_looks_random() {
    let mut redactor =
        Redactor::try_new(&RedactionSettings { mode: RedactionMode::Strict, ..RedactionSettings::default() })
            .unwrap();
    for field in [Field::Message, Field::Summary, Field::StderrLine] {
        assert_eq!(redactor.redact(field, b"disk is full").to_string(), "…(+12 bytes)");
        assert_eq!(redactor.redact(field, "…(+12 bytes)".as_bytes()).to_string(), "…(+12 bytes)");
    }
    assert_eq!(
        redactor.redact(Field::Name, b"x_9fQ2bL7ZkT4mWc8RvYp1Xs6Hd").to_string(),
        "[REDACTED:entropy]"
    );
    assert_eq!(redactor.redact(Field::Name, b"read_file").to_string(), "read_file");
    let mut closed = Redactor::closed();
    assert_eq!(closed.redact(Field::Message, b"disk is full").to_string(), "…(+12 bytes)");
}

#[test]
fn what_the_user_configures_is_applied() {
    let settings: RedactionSettings = toml::from_str(
        r#"
        pii = ["ip_public"]
        extra_keys = ["employee_no", "x-tenant-*"]
        allow_keys = ["idempotency_token"]
        allow_values = ['^test_']
        placeholder = "<{class}>"
        "#,
    )
    .unwrap();
    assert_eq!(
        settings.check().unwrap_err().to_string(),
        "cannot use redaction.placeholder: may hold letters, digits, {class} and any of [ ] : _ - * # . ! ~"
    );
    let settings = RedactionSettings {
        placeholder: "***{class}***".to_owned(),
        pattern: vec![CustomPattern {
            name: "acme-ticket".to_owned(),
            regex: "id=(ACME-[0-9]{6})".to_owned(),
            group: 1,
        }],
        ..settings
    };
    let mut redactor = Redactor::try_new(&settings).unwrap();
    let mut clean = |text: &str| redactor.redact(Field::Message, text.as_bytes()).to_string();
    assert_eq!(
        clean("employee-no=4711 x_tenant_a=b7"),
        "employee-no=***key_value*** x_tenant_a=***key_value***"
    );
    assert_eq!(clean("idempotency_token=ab12cd34"), "idempotency_token=ab12cd34");
    assert_eq!(clean("password=test_x1 password=x1test"), "password=test_x1 password=***key_value***");
    assert_eq!(clean("id=ACME-123456 a@b.example"), "id=***acme-ticket*** a@b.example");
    assert_eq!(clean("from 203.0.113.9 to 10.0.0.1"), "from ***ip*** to 10.0.0.1");
    assert_eq!(clean("203.0.11.9"), "***ip***");
}

#[test]
fn a_setting_that_cannot_be_applied_is_named_with_the_way_out() {
    let wrong =
        |text: &str| toml::from_str::<RedactionSettings>(text).unwrap().check().unwrap_err().to_string();
    assert!(
        wrong("allow_values = ['a', '(']")
            .starts_with("cannot use redaction.allow_values[1]: not a valid expression")
    );
    assert!(wrong("allow_values = ['x*']").contains("every value; anchor it"));
    assert!(wrong("[[pattern]]\nname='A b'\nregex='x'").starts_with("cannot use redaction.pattern[0].name"));
    assert!(
        wrong("[[pattern]]\nname='a'\nregex='x'\ngroup=2")
            .starts_with("cannot use redaction.pattern[0].group")
    );
    assert!(wrong("[[pattern]]\nname='a'\nregex='(x{1000}){1000}'").contains("too big"));
    assert!(wrong("extra_keys = ['*']").starts_with("cannot use redaction.extra_keys[0]"));
    assert!(toml::from_str::<RedactionSettings>("mode = 'off'").is_err());
    assert!(toml::from_str::<RedactionSettings>("secrets = false").is_err());
    let mut closed = Redactor::new(&toml::from_str("allow_values = ['(']").unwrap());
    assert_eq!(closed.redact(Field::Message, b"hello").to_string(), "…(+5 bytes)");
}

#[test]
fn a_revealed_field_is_still_safe_for_a_log() {
    let settings = RedactionSettings {
        reveal_fields: vec![RevealedField::ErrorMessage],
        ..RedactionSettings::default()
    };
    assert_eq!(settings.warnings().len(), 1);
    let mut redactor = Redactor::try_new(&settings).unwrap();
    assert_eq!(
        redactor.redact(Field::Message, b"password=a1b2c3\nforged").to_string(),
        "password=a1b2c3\\u{a}forged"
    );
    assert_eq!(
        redactor.redact(Field::Uri, b"http://h/?token=a1b2c3").to_string(),
        "http://h/?token=[REDACTED:key_value]"
    );
}

#[test]
fn a_user_id_that_is_an_address_is_hashed_where_there_is_a_key() {
    let mut redactor = Redactor::default();
    assert_eq!(redactor.redact(Field::UserId, b"anna@example.org").to_string(), "[REDACTED:email]");
    assert_eq!(redactor.redact(Field::UserId, b"u-4711").to_string(), "u-4711");
    redactor.set_hash_key(HashKey::Keyed([7; 32]));
    let hashed = redactor.redact(Field::UserId, b"anna@example.org").to_string();
    assert!(hashed.starts_with("hmac-sha256-raw:"), "{hashed}");
    assert_eq!(redactor.redact(Field::UserId, hashed.as_bytes()).to_string(), hashed);
}

#[test]
fn what_was_replaced_is_counted_by_class() {
    let mut counts = RedactionCounts::default();
    let text = format!("{TOKEN} {TOKEN} a@example.org");
    Redactor::default().redact_counted(Field::Message, text.as_bytes(), &mut counts);
    assert_eq!(counts.iter().collect::<Vec<_>>(), [("email", 1), ("github", 2)]);
    Redactor::default().redact_counted(Field::Message, b"harmless", &mut counts);
    assert_eq!(counts.iter().collect::<Vec<_>>(), [("email", 1), ("github", 2)]);
}

#[test]
fn a_redactor_can_move_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<Redactor>();
}

#[test]
fn a_terminal_sequence_cannot_eat_the_first_letter_of_a_secret() {
    for sequence in ["\u{9b} ", "\x1b[", "\x1b[ ", "\x1b[1;3", "\u{9b}"] {
        let text = format!("token {sequence}glpat-EXAMPLEexample012345 end");
        let shown = Redactor::default().redact(Field::StderrLine, text.as_bytes());
        assert!(!shown.as_str().contains("EXAMPLEexample"), "{sequence:?}: {shown}");
    }
}

mod attacks;
mod bodies;
mod door;
mod linear;
mod names;
mod properties;

fn run_redact(arguments: &[&str], input: &str) -> std::process::Output {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut child = Command::new(env!("CARGO_BIN_EXE_spantap"))
        .arg("redact")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that fails early need not read its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

#[test]
fn the_command_redacts_a_text_and_says_why() {
    let output =
        run_redact(&["--explain"], &format!("first line\nuse {TOKEN} here\npassword: |\n  q7Zr2EXAMPLE\n"));
    assert!(output.status.success());
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "first line\nuse [REDACTED:github] here\npassword: |\n  [REDACTED:key_value]\n"
    );
    let why = String::from_utf8(output.stderr).unwrap();
    assert!(
        why.contains("line 2, column 5: github by rule github-token (after gitleaks: github-pat"),
        "{why}"
    );
    assert!(why.contains("line 4, column 3: key_value by rule key-value, 12 bytes"), "{why}");
    assert!(!why.contains("EXAMPLE"));
}

#[test]
fn the_command_reads_a_file_as_it_reads_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sample.txt");
    std::fs::write(&file, format!("use {TOKEN} here\n")).unwrap();
    let file = file.to_str().unwrap();
    let output = run_redact(&[file], "something else");
    assert_eq!(output.stdout, b"use [REDACTED:github] here\n");
    for unreadable in ["not-there.txt", "src"] {
        let output = run_redact(&[unreadable], TOKEN);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(&format!("cannot open {unreadable}: ")), "{said}");
    }
}

#[test]
fn the_command_checks_logs_and_fails_if_a_secret_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let clean = folder.path().join("clean.jsonl");
    let leaky = folder.path().join("leaky.jsonl");
    std::fs::write(&clean, "{\"schema\":\"spantap/1\",\"args_hash\":\"hmac-sha256:86227fe96722a2247dcfee12c07d89c1b0567bbc9aa6a8d804838f66a3da843f\",\"session_id\":\"a1b2c3d4e5f6\",\"span_id\":\"4111111111111111\",\"tools\":[{\"definition_hash\":\"4111111111111111\"}],\"error_message\":\"password=[REDACTED:key_value]\"}\n").unwrap();
    std::fs::write(
        &leaky,
        format!(
            "{{\"schema\":\"spantap/1\"}}\n{{\"schema\":\"spantap/1\",\"error_message\":\"bad {TOKEN}\"}}\n{{\"schema\":\"spantap/1\",\"tool_name\":\"4111111111111111\"}}\n"
        ),
    )
    .unwrap();
    let (clean, leaky) = (clean.to_str().unwrap(), leaky.to_str().unwrap());
    let output = run_redact(&["--check", clean], "");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let output = run_redact(&["--check", clean, leaky], "");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("leaky.jsonl:2: github by rule github-token") && text.contains("in error_message"),
        "{text}"
    );
    assert!(text.contains("leaky.jsonl:3: card by rule card"), "the id of a span is not a card: {text}");
    let packed = folder.path().join("packed");
    std::fs::create_dir(&packed).unwrap();
    assert!(std::process::Command::new("gzip").args(["-9", leaky]).status().unwrap().success());
    std::fs::rename(format!("{leaky}.gz"), packed.join("old.jsonl.gz")).unwrap();
    let output = run_redact(&["--check", packed.to_str().unwrap()], "");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("old.jsonl.gz:2: github by rule github-token"), "{text}");
    assert!(!text.contains("EXAMPLE"));
}

#[test]
fn the_command_hashes_as_the_record_does() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let config = folder.path().join("config.toml");
    std::fs::write(&key, (0..32).collect::<Vec<u8>>()).unwrap();
    std::fs::write(&config, format!("hash_key_file = {key:?}\n")).unwrap();
    let set_mode =
        |mode| std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    let hash = |what: &str, input: &str| {
        let output = run_redact(&["--config", config.to_str().unwrap(), "--hash", what], input);
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    set_mode(0o600);
    // The test vector for the empty object.
    let empty = "hmac-sha256:86227fe96722a2247dcfee12c07d89c1b0567bbc9aa6a8d804838f66a3da843f\n";
    assert_eq!(hash("args", "{ }\n"), empty);
    assert_eq!(hash("text", "{}").split(':').nth(1), empty.split(':').nth(1));
    // Half a value has a hash that no record has.
    for (what, input) in [("args", "{\"a\":"), ("args", "{} x"), ("args", ""), ("result", "{\"a\":1}}")] {
        let output = run_redact(&["--config", config.to_str().unwrap(), "--hash", what], input);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{what} {input}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("not JSON"), "{what} {input}");
    }
    set_mode(0o644);
    assert!(hash("args", "{}").contains("can be read or changed by others: chmod 600"));
}

#[test]
fn an_error_about_the_config_file_does_not_quote_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    std::fs::write(&config, format!("[redaction]\nmode = \"{TOKEN}\"\n")).unwrap();
    let output = run_redact(&["--config", config.to_str().unwrap()], "x\n");
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    let named = "config.toml:2: `redaction.mode` is not one of default, strict;";
    assert!(text.contains(named) && !text.contains("EXAMPLE"), "{text}");
}
