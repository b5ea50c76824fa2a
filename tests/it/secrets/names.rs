//! Names that are derived from a command line.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::Value;

use super::{Search, TOKEN, collector, files};
use crate::support::{Home, logs_in};

/// A server without a configured name is named after its command line, which has secrets at any place.
#[test]
fn a_secret_of_a_command_line_is_in_no_name_of_a_server_file_or_series() {
    const PASSWORD: &str = "Zx9qT4mWv7";
    let url = format!("https://user:{PASSWORD}@pypi.corp");
    let script = format!("API_KEY=\"two {PASSWORD}\" srv");
    let code = format!("import os; os.environ['API_TOKEN'] = '{PASSWORD}'");
    let lines: &[(&str, &[&str], &str)] = &[
        ("uvx", &["--extra-index-url", &url, "mcp-foo"], "mcp-foo"),
        ("uvx", &["--option-of-tomorrow", &url, "mcp-foo"], "uvx"),
        ("uvx", &["--option-of-tomorrow", TOKEN, "mcp-foo"], "uvx"),
        ("npx", &["-y", &url], "npx"),
        ("npx", &["-y", TOKEN], "npx"),
        ("sh", &["-c", &script], "sh"),
        ("python3", &["-c", &code], "python3"),
        ("node", &["--password", PASSWORD, "server.js"], "node"),
        ("docker", &["run", "-i", "--option-of-tomorrow", TOKEN, "image"], "docker"),
        (TOKEN, &[], "server"),
    ];
    let home = Home::new();
    let search = Search::new(&[PASSWORD.to_owned(), TOKEN.to_owned()]);
    let (endpoint, got) = collector();
    for (program, arguments, name) in lines {
        let path = home.path().join(program);
        std::fs::write(&path, "#!/bin/sh\ncat\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = home.spantap(["-vv", "--otlp", &endpoint, "--otlp-set", "logs=true", "--"]);
        command.arg(&path).args(*arguments).stdin(Stdio::null());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        search.assert_absent("stderr", &output.stderr);
        let log = logs_in(&home.logs()).pop().unwrap();
        let record: Value =
            serde_json::from_str(std::fs::read_to_string(&log).unwrap().lines().next().unwrap()).unwrap();
        assert_eq!(record["server_name"], *name, "{program} {arguments:?}");
        for (path, bytes) in files(&home.path().join(".local/state/spantap")) {
            search.assert_absent(&path, &bytes);
            search.assert_absent("a file's name", path.as_bytes());
        }
        std::fs::remove_dir_all(home.logs()).unwrap();
    }
    let sent = got.lock().unwrap().clone();
    assert!(sent.len() > 1000, "{} bytes sent", sent.len());
    search.assert_absent("otlp", &sent);
}
