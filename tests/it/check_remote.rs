//! `check` of remote servers: both eras of Streamable HTTP, and each way of not working.

use std::io::Write;
use std::net::TcpListener;
use std::process::Output;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::http::{HttpFake, HttpRequest};
use crate::support::*;

type Answer = Option<(u16, Vec<(String, String)>, String)>;

fn json_answer(body: &Value) -> Answer {
    Some((
        200,
        vec![("Content-Type".to_owned(), "application/json; charset=utf-8".to_owned())],
        body.to_string(),
    ))
}

fn result(request: &HttpRequest, result: Value) -> Answer {
    json_answer(&json!({"jsonrpc": "2.0", "id": request.body["id"], "result": result}))
}

fn status(status: u16, headers: &[(&str, &str)]) -> Answer {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Some((status, headers, String::new()))
}

/// A server of an older revision with a session, whose answers are events.
fn legacy(request: &HttpRequest) -> Answer {
    let events = |result: Value| {
        let answer = json!({"jsonrpc": "2.0", "id": request.body["id"], "result": result}).to_string();
        // An event without data first, then a request of the server, then an answer in two lines of data.
        let (first, second) = answer.split_at(1);
        let ping = json!({"jsonrpc": "2.0", "id": "s1", "method": "ping"});
        let body = format!(
            "id: 1\ndata:\n\nevent: message\r\ndata: {ping}\r\n\r\ndata: {first}\ndata: {second}\n\n"
        );
        Some((200, vec![("content-type".to_owned(), "text/event-stream".to_owned())], body))
    };
    let has_session = request.header("mcp-session-id") == Some("s-1");
    let has_version = request.header("mcp-protocol-version") == Some("2025-06-18");
    match request.name() {
        // Some servers give an unknown message an error without an id.
        "server/discover" => {
            json_answer(&json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32600, "message": "x"}}))
        }
        "initialize" => {
            let info = json!({"protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                "serverInfo": {"name": "old", "version": "1"}});
            events(info).map(|(status, mut headers, body)| {
                headers.push(("Mcp-Session-Id".to_owned(), "s-1".to_owned()));
                (status, headers, body)
            })
        }
        // The client's answer to the request within the first stream comes before the version is agreed.
        "POST" if has_session => status(202, &[]),
        _ if !has_session || !has_version => status(400, &[]),
        "notifications/initialized" => status(202, &[]),
        "ping" => events(json!({})),
        "tools/list" => events(json!({"tools": [{"name": "a", "description": "x"}]})),
        "DELETE" => status(200, &[]),
        _ => status(500, &[]),
    }
}

fn check(url: &str, options: &[&str]) -> Output {
    let words = ["check", url, "--json", "--timeout", "20s"];
    Home::new().spantap(words.into_iter().chain(options.iter().copied())).output().unwrap()
}

fn report(url: &str, options: &[&str]) -> (i32, Value) {
    let output = check(url, options);
    let (printed, said) = text(&output);
    assert_eq!(said, "", "{printed}");
    (output.status.code().unwrap(), serde_json::from_str(&printed).unwrap())
}

#[test]
fn a_remote_server_of_the_older_revisions_is_greeted_measured_and_its_session_ended() {
    let server = HttpFake::serve(legacy);
    let (status, report) = report(&server.url, &[]);
    assert_eq!((status, &report["era"], &report["server"]), (0, &json!("legacy"), &json!("old")), "{report}");
    assert_eq!((&report["protocol"], &report["tools"]), (&json!("2025-06-18"), &json!(1)));
    assert_eq!(report["ended_by"], "session_deleted");
    let requests = server.requests();
    let names: Vec<&str> = requests.iter().map(HttpRequest::name).filter(|name| *name != "POST").collect();
    assert_eq!(
        names,
        ["server/discover", "initialize", "notifications/initialized", "ping", "tools/list", "DELETE"]
    );
    assert_eq!(requests.iter().filter(|request| request.body["id"] == "s1").count(), 3, "pings are answered");
}

#[test]
fn a_remote_server_of_the_newest_revision_gets_its_headers_and_no_session() {
    let server = HttpFake::serve(|request| {
        let is_whole = request.header("mcp-protocol-version") == Some("2026-07-28")
            && request.header("mcp-method") == request.body["method"].as_str()
            && request.header("accept") == Some("application/json, text/event-stream");
        match request.name() {
            _ if !is_whole => status(400, &[]),
            "server/discover" => result(
                request,
                json!({"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
                    "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "new", "version": "2"}}}),
            ),
            "tools/list" => result(request, json!({"tools": []})),
            _ => status(500, &[]),
        }
    });
    let (status, report) = report(&server.url, &[]);
    assert_eq!((status, &report["era"], &report["server"]), (0, &json!("modern"), &json!("new")), "{report}");
    assert_eq!((&report["ended_by"], &report["tools"]), (&json!("none"), &json!(0)));
}

#[test]
fn each_way_of_not_working_over_http_has_a_status_and_a_word_of_its_own() {
    let fake = |answer: fn(&HttpRequest) -> Answer| HttpFake::serve(answer).url;
    let garbage = TcpListener::bind("127.0.0.1:0").unwrap();
    let not_http = format!("http://{}/", garbage.local_addr().unwrap());
    // The same port speaks no TLS.
    let not_tls = not_http.replace("http:", "https:");
    std::thread::spawn(move || {
        for mut stream in garbage.incoming().flatten() {
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n");
            // A stream that is closed with bytes unread is reset.
            std::thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
        }
    });
    let closed = format!("http://{}/", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let page = |request: &HttpRequest| {
        (request.method == "POST")
            .then(|| (200, vec![("Content-Type".to_owned(), "text/html".to_owned())], "<html>".to_owned()))
    };
    let error = |request: &HttpRequest| {
        json_answer(
            &json!({"jsonrpc": "2.0", "id": request.body["id"], "error": {"code": -32603, "message": "x"}}),
        )
    };
    for (url, status, word) in [
        (fake(|_| status(401, &[("WWW-Authenticate", "Bearer")])), 10, "needs_sign_in"),
        (fake(|_| status(404, &[])), 9, "http_status"),
        (fake(|_| status(503, &[])), 9, "http_status"),
        (fake(page), 5, "not_mcp"),
        (fake(|_| json_answer(&json!({"hello": "world"}))), 5, "not_mcp"),
        (fake(error), 4, "protocol_error"),
        (not_http, 5, "not_mcp"),
        (not_tls, 8, "tls"),
        (closed, 7, "connect"),
        ("http://no-such-host.invalid/mcp".to_owned(), 6, "dns"),
    ] {
        let (code, report) = report(&url, &[]);
        assert_eq!((code, &report["error_type"]), (status, &word.into()), "{url}: {report}");
    }
    let silent = fake(|_| None);
    let output = Home::new().spantap(["check", &silent, "--json", "--timeout", "1s"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output).0);
}

#[test]
fn a_certificate_of_an_unknown_authority_is_an_error_of_tls() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key =
        tokio_rustls::rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = tokio_rustls::rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}/mcp", listener.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut tls = tokio_rustls::rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let _ = tls.complete_io(&mut stream);
        }
    });
    let (status, report) = report(&url, &[]);
    assert_eq!((status, &report["error_type"]), (8, &json!("tls")), "{report}");
}

/// Writes a host's file with one remote server, and returns its home folder.
fn home_with(url: &str, headers: &Value) -> Home {
    let home = Home::new();
    std::fs::create_dir(home.path().join(".cursor")).unwrap();
    let file = json!({"mcpServers": {"hub": {"url": url, "headers": headers}}});
    std::fs::write(home.path().join(".cursor/mcp.json"), file.to_string()).unwrap();
    home
}

#[test]
fn headers_of_an_entry_go_to_its_origin_only_also_after_redirects() {
    let elsewhere = HttpFake::serve(legacy);
    let place = elsewhere.url.replace("/mcp", "/mcp?token=hunter2hunter2");
    let server = HttpFake::serve(move |request| match request.path.as_str() {
        "/mcp" => status(307, &[("Location", "/moved")]),
        _ => status(308, &[("Location", &place)]),
    });
    let home = home_with(&server.url, &json!({"Authorization": "Bearer EXAMPLE-secret"}));
    let output = home.spantap(["check", "--all"]).output().unwrap();
    let (printed, _) = text(&output);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(printed.contains("redirects to another origin, http://127.0.0.1:"), "{printed}");
    assert!(!printed.contains("secret") && !printed.contains("hunter2"), "{printed}");
    assert!(elsewhere.requests().is_empty(), "{:?}", elsewhere.requests());
    let asked = server.requests();
    assert!(asked.iter().any(|request| request.path == "/moved"));
    assert!(asked.iter().all(|request| request.header("authorization") == Some("Bearer EXAMPLE-secret")));
}

#[test]
fn a_url_that_cannot_be_one_is_a_usage_error_in_one_line_and_quotes_no_credentials() {
    for (url, says) in [
        ("http://", "error: the URL has no host\n"),
        ("ftp://ada:hunter2hunter2@x/y", "error: the URL begins with neither http:// nor https://\n"),
        (
            "http://ada:hunter2hunter2@h:99999/",
            "error: the URL has a port that is not a number from 1 to 65535\n",
        ),
    ] {
        for options in [&[][..], &["--every", "1s", "--count", "1"], &["--json"]] {
            let output = Home::new().spantap(["check", url]).args(options).output().unwrap();
            let said = text(&output).1;
            assert!(output.status.code() == Some(2) && said.starts_with(says), "{url}: {said}");
            assert!(
                said.lines().count() == 2 && said.contains("\nhint: write it as https://HOST[:PORT]/PATH"),
                "{said}"
            );
        }
    }
    // The same address in the file of a host is a fault of the entry.
    let output = home_with("http://h:99999/mcp", &json!({})).spantap(["check", "hub"]).output().unwrap();
    let said = text(&output).1;
    assert!(output.status.code() == Some(127) && said.starts_with("error: its address has a port"), "{said}");
    assert!(said.contains("hint: correct the entry"), "{said}");
}

#[test]
fn of_a_url_on_the_command_line_no_entry_is_mentioned() {
    let elsewhere = HttpFake::serve(legacy).url;
    let moved = HttpFake::serve(move |_| status(307, &[("Location", &elsewhere)]));
    let refuses = HttpFake::serve(|_| status(401, &[]));
    let with_credentials = refuses.url.replace("http://", "http://ada:pw@");
    for (url, says) in [
        (&refuses.url, "error: it wants a sign-in (401)\n"),
        (&with_credentials, "error: it refuses the credentials (401)\n"),
        (&moved.url, "error: it redirects to another origin, "),
    ] {
        let said = text(&Home::new().spantap(["check", url]).output().unwrap()).1;
        assert!(said.starts_with(says) && !said.contains("entry"), "{said}");
    }
}

#[test]
fn a_sign_in_that_the_host_makes_is_not_a_failure_and_refused_credentials_are() {
    let server = HttpFake::serve(|_| status(401, &[]));
    for (headers, status, says) in
        [(json!({}), 0, "it wants a sign-in"), (json!({"X-Key": "x"}), 1, "refuses the credentials")]
    {
        let output = home_with(&server.url, &headers).spantap(["check", "--all"]).output().unwrap();
        let (printed, said) = text(&output);
        assert_eq!(output.status.code(), Some(status), "{printed}{said}");
        assert!(printed.contains("needs sign-in") && printed.contains(says), "{printed}");
    }
}

#[test]
fn a_pulse_of_an_address_raises_an_alert_and_shows_no_part_of_the_address() {
    let server = HttpFake::serve(|_| status(404, &[]));
    let url = server.url.replace("/mcp", "/s/1f9c0b7a6e5d4c3b2a1f?key=hunter2hunter2");
    let words = ["check", &url, "--every", "1ms", "--count", "3"];
    let output = Home::new().spantap(words).output().unwrap();
    let (printed, said) = text(&output);
    assert_eq!((output.status.code(), printed.lines().count()), (Some(9), 3), "{printed}");
    assert!(
        said.starts_with("spantap: alert: 3 failures in a row: it answers initialize with HTTP 404"),
        "{said}"
    );
    let all = format!("{printed}{said}");
    assert!(!all.contains("1f9c0b") && !all.contains("hunter2") && !all.contains("127.0.0.1"), "{all}");
}
