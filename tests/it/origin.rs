//! `--origin`: `wrap` names the entry, and `status` knows an entry by it.

use std::fs;

use serde_json::{Value, json};

use crate::support::*;
use crate::wrap::{json_lines, printed, put};

#[test]
fn an_entry_names_its_host_and_scope_and_an_older_or_copied_one_gets_them_with_the_next_wrap() {
    let home = Home::new();
    let before = r#"{"mcpServers":{"a":{"command":"true","args":["x"]},"b":{"command":"cat"}}}"#;
    let path = put(&home, ".cursor/mcp.json", before);
    printed(&home, "wrap -y");
    let wrapped = fs::read_to_string(&path).unwrap();
    let origin = r#""--origin", "cursor/user", "#;
    assert_eq!(wrapped.matches(origin).count(), 2, "{wrapped}");
    // Wrapped before the option existed, and copied from the file of another host.
    for old in [wrapped.replace(origin, ""), wrapped.replace("cursor/user", "vscode/user")] {
        fs::write(&path, &old).unwrap();
        let report = json_lines(&printed(&home, "wrap -y --json")).remove(0);
        assert_eq!((&report["origin_set"], &report["renewed"]), (&json!(["a", "b"]), &json!([])));
        assert_eq!(fs::read_to_string(&path).unwrap(), wrapped);
    }
    let args: Value = serde_json::from_str(&wrapped).unwrap();
    let args = args["mcpServers"]["a"]["args"].as_array().unwrap().clone();
    let args: Vec<&str> = args.iter().map(|arg| arg.as_str().unwrap()).collect();
    assert!(home.spantap(args).output().unwrap().status.success());
    let log = logs_in(&home.path().join(".local/state/spantap/sessions")).remove(0);
    let first = json_lines(&fs::read_to_string(log).unwrap()).remove(0);
    assert_eq!(first["origin"], "cursor/user");
    printed(&home, "unwrap -y");
    assert_eq!(fs::read_to_string(&path).unwrap(), before);
}
