//! The settings of the collector in the config file.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;
use crate::collect::passed_on::{PATIENCE, target};

fn write(home: &Home, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = home.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    path
}

fn config(home: &Home, text: &str) {
    write(home, ".config/spantap/config.toml", text, 0o600);
}

#[test]
fn a_service_needs_no_argument_and_no_secret_is_shown() {
    let (url, arrived) = target(&[]);
    let home = Home::new();
    write(&home, "token", "a-token-of-some-length\n", 0o600);
    write(&home, "key", "  Bearer s3cret-of-the-target\n", 0o600);
    config(
        &home,
        &format!(
            "[collect]\nlisten = ['127.0.0.1:0']\ntoken_file = '~/token'\nforward = '{url}'\n\
             forward_headers = ['x-team', 'authorization=@~/key', 'x-tenant=s3cret-tenant']\n"
        ),
    );
    let collecting = Collecting::with(home.spantap(["collect"]));
    let body = spans("agent", 1).encode_to_vec();
    assert_eq!(collecting.post("/v1/traces", &[PROTOBUF], &body).status, 401);
    let headers = [PROTOBUF, "authorization: Bearer a-token-of-some-length", "x-team: red"];
    assert_eq!(collecting.post("/v1/traces", &headers, &body).status, 200);
    let request = arrived.recv_timeout(PATIENCE).unwrap();
    assert_eq!(request.header("authorization"), Some("Bearer s3cret-of-the-target"));
    assert_eq!((request.header("x-team"), request.header("x-tenant")), (Some("red"), Some("s3cret-tenant")));
    let doctor = text(&home.spantap(["doctor", "--all"]).output().unwrap()).0;
    assert!(doctor.contains("x-team, authorization, x-tenant"), "{doctor}");
    assert!(!doctor.contains("spantap collect does not start"), "{doctor}");
    let (printed, said) = collecting.end();
    assert!(![doctor, printed, said].concat().contains("s3cret"));
    let setup = text(&home.spantap(["collect", "--setup", "server"]).output().unwrap()).0;
    assert!(setup.contains("http://127.0.0.1:0") && setup.contains("TOKEN"), "{setup}");
}

#[test]
fn headers_in_a_variable_are_percent_encoded_as_those_of_otlp() {
    let (url, arrived) = target(&[]);
    let home = Home::new();
    let mut command = home.spantap(["collect", "--listen", "127.0.0.1:0"]);
    command.env("SPANTAP_COLLECT_FORWARD", &url);
    command.env("SPANTAP_COLLECT_FORWARD_HEADERS", "x-team,x-key=a%2C%20b%3D,x-plain=c");
    let collecting = Collecting::with(command);
    let headers = [PROTOBUF, "x-team: red"];
    assert_eq!(collecting.post("/v1/traces", &headers, &spans("agent", 1).encode_to_vec()).status, 200);
    let request = arrived.recv_timeout(PATIENCE).unwrap();
    let found = ["x-team", "x-key", "x-plain"].map(|name| request.header(name));
    assert_eq!(found, [Some("red"), Some("a, b="), Some("c")]);
    collecting.end();
}

#[test]
fn a_collector_with_a_part_of_its_settings_is_not_started() {
    let home = Home::new();
    let key = write(&home, "key", "value", 0o644);
    let header = format!("x-key=@{}", key.display());
    let lines = write(&home, "lines", "authorization: Bearer s3cret\nx-other: s3cret\n", 0o600);
    let lines = format!("authorization=@{}", lines.display());
    let forward = ["--forward", "http://127.0.0.1:9"];
    for (text_of_config, options, expected) in [
        ("", vec!["--forward-header", "x-team"], "--forward-header needs a target"),
        ("", [&forward[..], &["--forward-header", &header]].concat(), "other users can read the header in"),
        ("", [&forward[..], &["--forward-header", "x-key=@~/none"]].concat(), "failed to read the header in"),
        (
            "",
            [&forward[..], &["--forward-header", "x-key=@~/none"]].concat(),
            "write the header into that file",
        ),
        ("", [&forward[..], &["--forward-header", &lines]].concat(), "has more than one line"),
        (
            "",
            [&forward[..], &["--forward-header", &lines]].concat(),
            "leave only the header itself in that file",
        ),
        ("", [&forward[..], &["--forward-header", "host"]].concat(), "`host` belongs to each single request"),
        ("", [&forward[..], &["--forward-header", "x-key=s3cret\u{1}"]].concat(), "visible ASCII characters"),
        ("collect.listen = 'x'", vec![], "`collect.listen` cannot be used"),
        ("collect.listen = '0.0.0.0:0'", vec![], "other machines can reach 0.0.0.0:0"),
        ("collect.token_file = '~/none'", vec![], "failed to read the token in"),
        ("collect.token_file = '$SECRETS/none'", vec![], "`collect.token_file` cannot be used"),
        // A line that cannot be read, and a name that is misspelt, would leave the collector without its token.
        ("[collect]\ntoken_file = '~/none", vec![], "may belong to `[collect]` cannot be read"),
        ("[collect\ntoken_file = '~/none'", vec![], "may belong to `[collect]` cannot be read"),
        ("collect.token-file = '~/none'", vec![], "may belong to `[collect]` cannot be read"),
        ("[colect]\ntoken_file = '~/none'", vec![], "may belong to `[collect]` cannot be read"),
        // Curl's form of a header.
        (
            "[collect]\nforward = 'http://127.0.0.1:8'\nforward_headers = ['authorization: Bearer s3cret']",
            vec![],
            "a header does not begin with a name",
        ),
        // The target of an entry does not get the headers of the config file.
        (
            "[collect]\nforward = 'http://127.0.0.1:8'\nforward_headers = ['x-key=s3cret']",
            forward.to_vec(),
            "and their target by flag",
        ),
    ] {
        config(&home, text_of_config);
        let output = home.spantap([&["collect", "--listen", "127.0.0.1:0"][..], &options].concat());
        let output = match text_of_config.contains("listen") {
            true => home.spantap(["collect"]).output().unwrap(),
            false => { output }.output().unwrap(),
        };
        let (printed, said) = text(&output);
        assert!(!output.status.success() && said.contains(expected), "{text_of_config} {options:?}: {said}");
        assert!(!printed.contains("listening") && !said.contains("s3cret"), "{said}");
        let doctor = text(&home.spantap(["doctor"]).output().unwrap()).0;
        let is_known = options.is_empty();
        assert_eq!(doctor.contains("spantap collect does not start"), is_known, "{text_of_config}: {doctor}");
    }
}
