//! `wrap --with-self`: the host also starts `spantap mcp`.

use std::fs;

use serde_json::{Value, json};

use crate::support::*;
use crate::wrap::{json_lines, printed, put, run};

const CURSOR: &[u8] =
    b"\xef\xbb\xbf{\r\n  \"mcpServers\": {\r\n    \"a\": {\"command\": \"cat\"}\r\n  }\r\n}\r\n";

#[test]
fn with_self_the_host_also_starts_spantap_s_own_server_until_unwrap() {
    let home = Home::new();
    let path = put(&home, ".cursor/mcp.json", CURSOR);
    let said = printed(&home, "wrap --yes --with-self -- --log-dir logs --slow 9s");
    assert!(said.contains("Cursor: 2 servers changed."), "{said}");
    let now: Value =
        serde_json::from_str(fs::read_to_string(&path).unwrap().trim_start_matches('\u{feff}')).unwrap();
    let own = &now["mcpServers"]["spantap"];
    assert_eq!(own["args"], json!(["mcp", "--wrapped", "self", "--log-dir", "logs"]), "{now}");
    let status = json_lines(&printed(&home, "status --json"));
    let watched = |name: &str| status.iter().find(|row| row["server"] == name).unwrap()["watched"].clone();
    assert_eq!((watched("a"), watched("spantap")), (json!("yes"), json!("no")));
    // A second time nothing changes, and the entry is not wrapped itself.
    let before = fs::read(&path).unwrap();
    assert!(printed(&home, "wrap --yes --with-self").ends_with("nothing to do\n"));
    assert_eq!(fs::read(&path).unwrap(), before);
    // The entry starts a server.
    let words = own["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap());
    let mut session = Session::start({
        let mut command = home.command(own["command"].as_str().unwrap());
        command.args(words);
        command
    });
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}});
    assert_eq!(session.request("initialize", params)["result"]["serverInfo"]["name"], "spantap");
    assert!(session.end().0.success());
    let line = json_lines(&printed(&home, "unwrap --yes --json")).remove(0);
    assert_eq!((&line["own"], &line["written"]), (&json!(["spantap"]), &json!(true)));
    assert_eq!(fs::read(&path).unwrap(), CURSOR);
    // One that the user has is left alone, and named.
    let taken = r#"{"mcpServers": {"spantap": {"command": "cat"}}}"#;
    fs::write(&path, taken).unwrap();
    let output = run(&home, "wrap --dry-run --with-self");
    assert!(text(&output).0.contains("a server is called `spantap` already"), "{output:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), taken);
}
