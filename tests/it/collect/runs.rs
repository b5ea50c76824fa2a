//! The beginning and the end of a run, and what other commands know of it.

use std::os::unix::fs::MetadataExt;

use super::*;

#[test]
fn a_port_that_is_taken_is_named_with_its_owner_and_the_way_out() {
    let home = Home::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let output = home.spantap(["collect", "--listen", &address]).output().unwrap();
    let (printed, said) = text(&output);
    assert_eq!((output.status.code(), printed.as_str()), (Some(1), ""));
    assert!(said.contains(&format!("{address} is taken")), "{said}");
    if cfg!(target_os = "linux") {
        assert!(said.contains(&format!("(pid {}) listens there", std::process::id())), "{said}");
    }
    assert!(said.contains(&format!("--listen 14318 --forward http://{address}\n")), "{said}");
    assert!(said.contains("OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:14318"), "{said}");
    drop(listener);
    let running = Collecting::start(&home, &[]);
    let output = home.spantap(["collect", "--listen", &running.address.to_string()]).output().unwrap();
    let said = text(&output).1;
    assert!(said.contains(&format!("spantap collect runs already (pid {})", running.child.id())), "{said}");
}

#[test]
fn the_state_of_a_run_is_private_and_says_how_it_ended() {
    let home = Home::new();
    let collecting = Collecting::start(&home, &[]);
    let path = home.path().join(".local/state/spantap/collect.json");
    wait_until("a state file", || path.exists());
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(state(&home)["addresses"], serde_json::json!([collecting.address.to_string()]));
    assert_eq!(collecting.send(&spans("spantap", 7)).status, 200);
    wait_until("counts", || state(&home)["counts"]["spans"] == 7);
    let (printed, said) = collecting.end();
    assert!(printed.contains("not recorded: 7 spans of spantap itself"), "{printed}");
    assert!(!said.contains("did not end in order"), "{said}");
    assert!(state(&home)["ended_at"].is_string());
    let collecting = Collecting::start(&home, &[]);
    wait_until("a state file", || !state(&home)["ended_at"].is_string());
    kill_process(Pid::from_child(&collecting.child), Signal::KILL).unwrap();
    drop(collecting);
    let (_, said) = Collecting::start(&home, &[]).end();
    assert!(said.contains("did not end in order"), "{said}");
}

#[test]
fn status_and_doctor_say_whether_a_collector_runs() {
    let home = Home::new();
    crate::wrap::put(&home, ".cursor/mcp.json", r#"{"mcpServers": {"s": {"command": "true"}}}"#);
    let said = |command: &str| text(&home.spantap([command]).output().unwrap()).0;
    assert!(!said("status").contains("spantap collect runs") && !said("doctor").contains("spantap collect"));
    let collecting = Collecting::start(&home, &[]);
    collecting.send(&spans("agent", 3));
    wait_until("counts", || state(&home)["counts"]["spans"] == 3);
    let line = format!("spantap collect runs (pid {}) on {}", collecting.child.id(), collecting.address);
    for command in ["status", "doctor"] {
        let said = said(command);
        assert!(said.contains(&line) && said.contains("1 request, 3 spans"), "{command}: {said}");
    }
    kill_process(Pid::from_child(&collecting.child), Signal::KILL).unwrap();
    drop(collecting);
    for command in ["status", "doctor"] {
        assert!(said(command).contains("did not end in order"), "{command}");
    }
}

#[test]
fn status_shows_the_collector_also_where_no_host_has_a_file() {
    let home = Home::new();
    let collecting = Collecting::start(&home, &[]);
    let line = format!("spantap collect runs (pid {}) on {}", collecting.child.id(), collecting.address);
    wait_until("a state", || text(&home.spantap(["status"]).output().unwrap()).0.contains(&line));
    let output = home.spantap(["status", "--json"]).output().unwrap();
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(found["collector"].as_str().unwrap().starts_with(&line), "{found}");
    assert_eq!(output.status.code(), Some(1), "no file is found");
}

#[test]
fn the_lines_for_each_program_name_the_address_that_is_listened_on() {
    let home = Home::new();
    for program in ["claude-code", "codex", "gemini-cli", "opencode", "vscode", "server"] {
        let output = home.spantap(["collect", "--setup", program, "--listen", "14318"]).output().unwrap();
        let (printed, said) = text(&output);
        assert!(output.status.success() && said.is_empty(), "{said}");
        assert!(printed.contains("http://127.0.0.1:14318"), "{printed}");
    }
}

#[test]
fn a_proxy_listens_on_no_port() {
    if !cfg!(target_os = "linux") {
        return skip("/proc lists the sockets");
    }
    let home = Home::new();
    std::fs::create_dir_all(home.path().join(".config/spantap")).unwrap();
    let mut session = home.session(&["--server", "s", "--otlp", "http://127.0.0.1:9", "-v"]);
    session.calls(3);
    let folder = format!("/proc/{}/fd", session.pid());
    let links = std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read_link(entry.unwrap().path()));
    let sockets: Vec<String> = links
        .filter_map(|link| {
            link.ok()?.to_str()?.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned)
        })
        .collect();
    let listening = |table: &str| {
        let lines =
            std::fs::read_to_string(format!("/proc/{}/net/{table}", session.pid())).unwrap_or_default();
        let fields = lines.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
        fields.filter(|fields| fields[3] == "0A" && sockets.iter().any(|socket| socket == fields[9])).count()
    };
    assert_eq!(listening("tcp") + listening("tcp6"), 0);
    session.end();
}

#[test]
fn a_program_that_leaves_after_its_last_byte_loses_nothing() {
    let home = Home::new();
    let collecting = Collecting::start(&home, &[]);
    let body = spans("agent", 200).encode_to_vec();
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\n{PROTOBUF}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let request = [head.as_bytes(), &body].concat();
    for _ in 0..100 {
        // The end of an agent, which does not wait for the answer.
        collecting.connect().write_all(&request).unwrap();
    }
    wait_until("every request is recorded or refused", || {
        let counts = &state(&home)["counts"];
        let busy = counts["refused"]["busy"].as_u64().unwrap_or(0);
        counts["requests"].as_u64().is_some_and(|requests| requests + busy == 100)
    });
    // A client that closes its side alone reads the answer.
    let mut stream = collecting.connect();
    stream.write_all(&request).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read_answer(&mut stream).status, 200);
}
