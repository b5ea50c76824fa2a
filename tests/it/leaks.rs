//! A session full of secrets at debug level: no record contains one of them.
//!
//! Everything between the bytes and the line of the log is real: observer, redactor, record.

use serde_json::Value;
use spantap::observe::canonical::HashKey;
use spantap::observe::event::{EndReason, Event, SessionSource, SessionStarted, Sink, Span};
use spantap::observe::redact::{Field, Redactor, rules};
use spantap::observe::traceparent::{SpanId, TraceFlags, TraceId};
use spantap::observe::{Debug, Denials, Observer, ObserverSettings, ServerEnd};
use spantap::record::Record;
use spantap::record::timestamp::Timestamp;
use spantap::record::{ClockAnchor, Identity};
use spantap::relay::chunk::{Chunk, Moment, Stream};

use crate::replay::{Player, settings};

/// A sink that keeps the lines of the log.
struct Lines {
    identity: Identity,
    anchor: ClockAnchor,
    lines: Vec<String>,
}

impl Sink for Lines {
    fn record(&mut self, event: &Event) {
        if let Some(record) = Record::new(event, &self.identity, &self.anchor, None, &[]) {
            self.lines.push(serde_json::to_string(&record).unwrap());
        }
    }
}

/// Feeds whole lines to an observer at debug level and returns the log.
fn session(lines: &[(Stream, String)], command: &[&str], redactor: Redactor) -> Vec<String> {
    session_at(Debug::On, lines, command, redactor)
}

fn session_at(debug: Debug, lines: &[(Stream, String)], command: &[&str], redactor: Redactor) -> Vec<String> {
    let span = Span {
        trace_id: TraceId::new([1; 16]).unwrap(),
        span_id: SpanId::new([2; 8]).unwrap(),
        parent_span_id: None,
        linked: None,
        trace_state: None,
        flags: TraceFlags::new_trace(true),
    };
    let settings = ObserverSettings {
        slow: std::time::Duration::from_secs(30),
        call_timeout: None,
        thrash_threshold: 5,
        thrash_tools: Vec::new(),
        result_limit: None,
        debug,
        hash_key: HashKey::Keyed([7; 32]),
        connection: span.clone(),
        denials: Denials::standard(),
        conversation_id: None,
    };
    let identity = Identity {
        connection_id: "0190c0de-0000-7000-8000-000000000001".to_owned(),
        session_id: "s".to_owned(),
        server_name: "test".to_owned(),
        user_id: None,
    };
    let mut sink = Lines {
        identity,
        anchor: ClockAnchor { moment: Moment(0), wall: Timestamp::default() },
        lines: Vec::new(),
    };
    let mut words = Redactor::default();
    let command: Vec<std::ffi::OsString> = command.iter().map(Into::into).collect();
    let mut observer = Observer::new(settings, redactor, [3; 32]);
    let started = SessionStarted {
        pid: 1,
        child_pid: Some(2),
        host_pid: Some(3),
        command: words.redact_argv(&command),
        environment: vec![words.redact(Field::Name, b"API_TOKEN")],
        session_source: SessionSource::Flag,
        cwd: None,
        origin: None,
        span,
        hash_key_id: None,
        spawned: Moment(0),
        stderr_is_stdout: false,
        begins_session: false,
    };
    observer.start(started, Moment(1), &mut sink);
    let mut offsets = [0_u64; 3];
    for (at, (stream, line)) in lines.iter().enumerate() {
        let bytes = format!("{line}\n").into_bytes();
        let offset = &mut offsets[*stream as usize];
        let read_at = Moment(1_000_000 * (at as u64 + 1));
        observer
            .chunk(Chunk { stream: *stream, offset: *offset, read_at, bytes: &bytes, mark: None }, &mut sink);
        *offset += bytes.len() as u64;
    }
    let end = ServerEnd {
        at: Moment(10_000_000_000),
        reason: EndReason::ServerDied,
        exit_code: Some(1),
        signal: None,
        orphan_killed: false,
        catch_ups: 0,
        observer_panics: 0,
    };
    observer.end(end, &mut sink);
    sink.lines
}

fn json(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// One secret in every place of the protocol that a record shows, and in many that it does not show.
pub fn planted(secret: &str) -> Vec<(Stream, String)> {
    use Stream::{Stderr, Stdin, Stdout};
    let text = |before: &str| json(&format!("{before} {secret} end"));
    vec![
        (
            Stdin,
            format!(
                r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":{},"clientInfo":{{"name":{},"version":{}}},"capabilities":{{"x":{}}}}}}}"#,
                text("v"),
                text("host"),
                text("1"),
                text("c")
            ),
        ),
        (
            Stdout,
            format!(
                r#"{{"jsonrpc":"2.0","id":0,"result":{{"protocolVersion":"2025-11-25","serverInfo":{{"name":{},"version":{}}},"instructions":{}}}}}"#,
                text("srv"),
                text("2"),
                text("i")
            ),
        ),
        (
            Stdin,
            format!(
                r#"{{"jsonrpc":"2.0","id":{},"method":"tools/call","params":{{"name":{},"arguments":{{"a":{},{}:1}},"_meta":{{"conversationId":{},"tracestate":{},"progressToken":{}}}}}}}"#,
                text("id"),
                text("tool"),
                text("a"),
                text("k"),
                text("conv"),
                text("ts"),
                text("pt")
            ),
        ),
        (
            Stdout,
            format!(
                r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[{{"type":"text","text":{}}}],"structuredContent":{{"x":{}}}}}}}"#,
                text("id"),
                text("result says"),
                text("s")
            ),
        ),
        (
            Stdin,
            format!(
                r#"{{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{{"name":"t","arguments":{{"a":{}}}}}}}"#,
                text("b")
            ),
        ),
        (
            Stdout,
            format!(
                r#"{{"jsonrpc":"2.0","id":2,"error":{{"code":-32000,"message":{},"data":{}}}}}"#,
                text("failed with"),
                text("d")
            ),
        ),
        (
            Stdin,
            r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"t","arguments":{}}}"#
                .to_owned(),
        ),
        (
            Stdout,
            format!(
                r#"{{"jsonrpc":"2.0","id":3,"result":{{"isError":true,"content":[{{"type":"text","text":{}}}]}}}}"#,
                text("tool error")
            ),
        ),
        (
            Stdin,
            format!(
                r#"{{"jsonrpc":"2.0","id":4,"method":"resources/read","params":{{"uri":{}}}}}"#,
                json(&format!("https://u:{secret}@h.example/p?token={secret}#{secret}"))
            ),
        ),
        (
            Stdout,
            format!(
                r#"{{"jsonrpc":"2.0","id":4,"result":{{"contents":[{{"uri":"x","text":{}}}]}}}}"#,
                text("body")
            ),
        ),
        (
            Stdin,
            format!(r#"{{"jsonrpc":"2.0","id":5,"method":"prompts/get","params":{{"name":{}}}}}"#, text("p")),
        ),
        (Stdin, format!(r#"{{"jsonrpc":"2.0","id":6,"method":{}}}"#, text("m/x"))),
        (Stdin, format!(r#"{{"jsonrpc":{},"id":7,"method":"ping"}}"#, text("1"))),
        (
            Stdout,
            format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"info","logger":{},"data":{}}}}}"#,
                text("l"),
                text("note")
            ),
        ),
        (
            Stdout,
            format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":1,"message":{}}}}}"#,
                text("p")
            ),
        ),
        (
            Stdin,
            format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":99,"reason":{}}}}}"#,
                text("why")
            ),
        ),
        (Stdin, r#"{"jsonrpc":"2.0","id":8,"method":"tools/list"}"#.to_owned()),
        (
            Stdout,
            format!(
                r#"{{"jsonrpc":"2.0","id":8,"result":{{"tools":[{{"name":{},"description":{}}}]}}}}"#,
                text("n"),
                text("d")
            ),
        ),
        (Stdout, format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, text("unmatched"))),
        (Stdout, format!("not JSON at all {secret}")),
        (Stderr, format!("connecting with {secret} now")),
        (Stderr, format!("\x1b[31merror\x1b[0m: key \x1b[1m{secret}\x1b[0m")),
        (Stderr, format!("{{\"msg\":{}}}", text("json log"))),
    ]
}

/// Returns the forms in which a secret could appear in a log.
pub fn forms(secret: &str) -> Vec<String> {
    let escaped = json(secret);
    let percent: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![secret.to_owned(), escaped[1..escaped.len() - 1].to_owned(), percent, hex];
    for padding in 0..3 {
        let shifted = format!("{}{secret}", "x".repeat(padding));
        let encoded = base64(shifted.as_bytes());
        // Only secrets that are found without their context.
        forms.push(encoded[4..encoded.len() - 4].to_owned());
    }
    forms
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    bytes
        .chunks(3)
        .flat_map(|chunk| {
            let word = chunk.iter().fold(0_u32, |word, &byte| word << 8 | u32::from(byte))
                << (8 * (3 - chunk.len()));
            (0..4).map(move |place| ALPHABET[(word >> (18 - 6 * place) & 63) as usize] as char)
        })
        .collect()
}

fn assert_hidden(secret: &str, log: &[String]) {
    let text = log.join("\n");
    for form in forms(secret) {
        assert!(!text.contains(&form), "{form} in\n{text}");
    }
    // Pieces of a secret must not appear either: half of many a token is enough.
    for piece in secret.as_bytes().windows(secret.len().min(14)) {
        let piece = std::str::from_utf8(piece).unwrap();
        assert!(!text.contains(piece), "{piece} of {secret} in\n{text}");
    }
}

#[test]
fn no_vendor_token_gets_into_a_record_wherever_it_is_planted() {
    for rule in rules() {
        let secret = rule.sample;
        let log =
            session(&planted(secret), &["mcp-x", "--flag", secret, "--api-key", secret], Redactor::default());
        assert!(log.len() > 20, "{} records", log.len());
        assert_hidden(secret, &log);
        assert!(log.iter().any(|line| line.contains(rule.class)), "{} was not seen at all", rule.name);
    }
}

/// Secrets that are found by the text before them, and personal data.
pub const NAMED: [(&str, &str); 54] = [
    ("password=", "q7Zr2EXAMPLEpw"),
    ("\"client_secret\": \"", "q7Zr3EXAMPLEpw"),
    ("Authorization: Bearer ", "q7Zr4EXAMPLEopaque"),
    ("Cookie: sid=", "q7Zr5EXAMPLEsession"),
    ("postgres://app:", "q7Zr6EXAMPLEpw@db.example/x"),
    ("https://h.example/?access_token=", "q7Zr7EXAMPLEpw"),
    ("https://hooks.slack.com/services/", "T0EXAMPLE/B0EXAMPLE/q7Zr8EXAMPLEhook"),
    ("run x --api-key ", "q7Zr9EXAMPLEflag"),
    ("srv --session ", "q7Zr10EXAMPLEses"),
    ("java -Dtoken=", "q7Zr11EXAMPLEprop"),
    ("APP_DSN=", "q7Zr12EXAMPLEdsn"),
    ("APP_SALT=", "q7Zr13EXAMPLEsalt"),
    ("CLIENT_API=", "q7Zr14EXAMPLEapi"),
    ("SLACK_WEBHOOK_URL=https://h.example/x/", "q7Zr15EXAMPLEhook"),
    ("PASSWORD=$(echo ", "q7Zr16EXAMPLEpw"),
    ("srv --token-stdin <<< ", "q7Zr17EXAMPLEin"),
    ("ConvertTo-SecureString -String ", "q7Zr18EXAMPLEpw"),
    ("acme -u bob:", "q7Zr19EXAMPLEpw"),
    ("srv --license ", "q7Zr20EXAMPLElic"),
    ("set -x API_TOKEN ", "q7Zr21EXAMPLEfish"),
    ("setenv API_TOKEN ", "q7Zr22EXAMPLEcsh"),
    ("https://mcp.example/", "e1a2b3c4-5d6e-4f70-8192-a3b4c5d6e7f8"),
    ("ACfedcba98765432100f1e2d3c4b5a6978:", "e1a2b3c45d6e4f708192a3b4c5d6e7f8"),
    ("login: admin / ", "q7Zr23EXAMPLEpw"),
    ("https://h.example/reset-password/", "q7Zr24EXAMPLEexample0123"),
    ("htpasswd -b f bob ", "q7Zr25EXAMPLEpw"),
    ("IDENTIFIED BY '", "q7Zr26EXAMPLEpw"),
    ("mysql -p", "q7Zr27EXAMPLEpw"),
    ("Basic ", "cTdacjI4RVhBTVBMRTpxN1pyMjhFWEFNUExF"),
    ("invalid token ", "q7Zr29EXAMPLEexAmple0123"),
    ("app:", "q7Zr30EXAMPLEpw@db.example:5432/x"),
    ("acme_pat_", "q7Zr31EXAMPLEexAmple0123"),
    ("rocommunity ", "q7Zr32EXAMPLEsnmp"),
    ("password%3D", "q7Zr33EXAMPLEpw"),
    ("requirepass ", "q7Zr34EXAMPLEpw"),
    ("pesel=", "44051401359"),
    ("mail ", "anna.example@mail.example.org"),
    ("card ", "4111 1111 1111 1111"),
    ("iban ", "DE89370400440532013000"),
    ("ssn ", "078-05-1123"),
    ("call ", "+49 30 1234567"),
    ("password is ", "Zr35-EXAMPLE"),
    ("das Passwort lautet ", "Zr36_EXAMPLEpw"),
    ("a1 LOGIN bob ", "q7Zr37EXAMPLEpw"),
    ("AUTH PLAIN ", "AGJvYgBxN1pyMzhFWEFNUExFcHc="),
    ("bob:", "$apr1$EXAMPLEs$q7Zr39EXAMPLEhash0123"),
    (".AspNetCore.Session=", "CfDJ8EXAMPLEexample0123456789EXAMPLEexample0123"),
    ("::add-mask::", "q7Zr41EXAMPLEmask"),
    ("wandb login ", "q7Zr42EXAMPLEexample0123456789example"),
    ("**Password**: `", "q7Zr43EXAMPLEpw"),
    ("creds bob / ", "q7Zr46EXAMPLEpw"),
    ("password \\x1b[31m=\\x1b[0m ", "q7Zr47EXAMPLEpw"),
    ("codice fiscale ", "RSSMRA85T10A562S"),
    ("n° de sécurité sociale ", "1 85 05 78 006 084 91"),
];

#[test]
fn no_named_secret_or_personal_data_gets_into_a_record() {
    for (before, secret) in NAMED {
        let text = format!("{before}{secret}");
        let hidden = secret.split('@').next().unwrap();
        let log = session(&planted(&text), &["mcp-x", "--password", hidden], Redactor::default());
        assert_hidden(hidden, &log);
    }
}

/// A private key whose first line is older than the lines that the record of an abnormal end contains.
#[test]
fn the_last_words_of_a_server_hold_no_part_of_a_key_that_began_before_them() {
    let body = "MIIEXAMPLEexample0123456789+/EXAMPLEexample0123456789EXAMPLEexam";
    for level in [Debug::On, Debug::Off] {
        let mut lines = vec![(Stream::Stderr, "-----BEGIN RSA PRIVATE KEY-----".to_owned())];
        lines.extend(std::iter::repeat_n((Stream::Stderr, body.to_owned()), 30));
        let log = session_at(level, &lines, &["mcp-x"], Redactor::default());
        assert!(log.iter().any(|line| line.contains("[REDACTED:private_key]")), "{log:?}");
        assert!(!log.join("").contains("MIIEXAMPLE"), "{log:?}");
        // After the end of the key, lines of the server are shown again.
        lines.push((Stream::Stderr, "-----END RSA PRIVATE KEY-----".to_owned()));
        lines.push((Stream::Stderr, "cannot bind".to_owned()));
        let log = session_at(level, &lines, &["mcp-x"], Redactor::default());
        assert!(!log.join("").contains("MIIEXAMPLE") && log.join("").contains("cannot bind"), "{log:?}");
    }
}

#[test]
fn nothing_that_an_outside_text_holds_makes_a_second_record() {
    for forged in ["\n", "\r\n", "\u{85}", "\u{2028}", "\u{1b}[2K", "\0", "\u{202e}"] {
        let text = format!("x{forged}{{\"schema\":\"spantap/1\",\"event\":\"forged\"}}");
        // On stderr a line end of the text ends the line, so the rest is a line of its own.
        let lines: Vec<_> =
            planted(&text).into_iter().filter(|(stream, _)| *stream != Stream::Stderr).collect();
        for line in session(&lines, &["mcp-x", &text], Redactor::default()) {
            let record: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_ne!(record["event"], "forged");
            let raw =
                line.chars().find(|&c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202e}'));
            assert_eq!(raw, None, "{line:?}");
        }
    }
}

#[test]
fn a_closed_redactor_lets_no_free_text_into_a_record() {
    let log = session(&planted("harmless words"), &["mcp-x"], Redactor::closed());
    let text = log.join("\n");
    for place in ["failed with", "result says", "tool error", "connecting with", "note"] {
        assert!(!text.contains(place), "{place} in\n{text}");
    }
}

#[test]
fn after_a_panic_the_rest_of_a_secret_on_stderr_is_not_logged() {
    let mut player = Player::with(ObserverSettings { debug: Debug::On, ..settings() });
    player.send(Stream::Stderr, "token: ghp_EXAMPLEexampleEXA");
    player.recover();
    player.send(Stream::Stderr, "MPLEexample0123456789\nlistening\n");
    let records: Vec<String> = player.end().iter().map(Value::to_string).collect();
    let text = records.join("\n");
    assert!(!text.contains("MPLEexample0123456789") && text.contains("listening"), "{text}");
}
