//! TLS: a given authority or that of the system, and client certificates.

use super::certificates::Certificates;
use super::collector::{Collector, Manner, Request};
use super::{session, session_until};
use crate::support::{Home, wait_until};

#[test]
fn a_collector_that_wants_to_see_a_certificate_sees_ours() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(folder.path());
    let set = |key: &str, file: &str| format!("{key}={}", certificates.path(file));
    let authority = set("certificate", "authority.pem");
    let (certificate, key) = (set("client_certificate", "client.pem"), set("client_key", "client.key"));
    let variables = [
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", certificates.path("authority.pem")),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", certificates.path("client.pem")),
        ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", certificates.path("client.key")),
        ("OTEL_METRICS_EXPORTER", "none".to_owned()),
    ];
    let system = [("SSL_CERT_FILE", certificates.path("authority.pem"))];
    let none: [(&str, String); 0] = [];
    for protocol in ["protocol=http/protobuf", "protocol=http/json", "protocol=grpc"] {
        let try_with = |set: &[&str], variables: &[(&str, String)], arrives: bool| {
            let collector = match protocol {
                "protocol=grpc" => Collector::grpc_with_tls(&certificates),
                _ => Collector::with_tls(&certificates),
            };
            let home = Home::new();
            let mut options = vec!["--otlp", collector.endpoint.as_str(), "--otlp-set", protocol];
            options.extend(set.iter().flat_map(|entry| ["--otlp-set", entry]));
            let variables: Vec<(&str, &str)> =
                variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let ended = session_until(&home, &options, &variables, 3, || {
                wait_until("the spans", || !arrives || collector.spans().len() == 5);
            });
            let (arrived, lost) = (collector.spans().len(), ended.lost());
            let wanted = if arrives { (5, 0) } else { (0, 5) };
            let as_wanted = (arrived, lost) == wanted || (!arrives && arrived == 0 && ended.had_no_time());
            assert!(as_wanted, "{protocol} {set:?}: {arrived} arrived: {}", ended.stderr);
        };
        try_with(&[&authority, &certificate, &key], &none, true);
        try_with(&[], &variables, true);
        // On Windows, only gRPC takes the authorities of this variable: HTTP asks the system itself.
        if cfg!(unix) || protocol == "protocol=grpc" {
            try_with(&[&certificate, &key], &system, true);
        }
        // The certificate of the server, or ours, has no trusted authority.
        try_with(&[&certificate, &key], &none, false);
        try_with(&[&authority], &none, false);
    }
}

#[test]
fn files_that_cannot_be_used_turn_the_export_off_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(folder.path());
    for set in
        ["certificate=/nowhere.pem".to_owned(), format!("certificate={}", certificates.path("client.key"))]
    {
        let home = Home::new();
        let ended = session(&home, &["--otlp", "https://localhost:9", "--otlp-set", &set], &[], 3);
        assert!(ended.is_success);
        let stderr = &ended.stderr;
        assert!(stderr.contains("spans are not sent: "), "{stderr}");
        assert_eq!(ended.lost(), 5, "{stderr}");
    }
}

/// An entry of a cloned repository can name any collector.
#[test]
fn the_token_of_the_config_file_stays_with_the_collector_of_the_config_file() {
    const TOKEN: &str = "s3cret-of-the-config-file";
    let home = Home::new();
    let config = |endpoint: &str, protocol: &str| {
        let folder = home.path().join(".config/spantap");
        std::fs::create_dir_all(&folder).unwrap();
        let text = format!("[otlp]\n{endpoint}protocol = '{protocol}'\nheaders.authorization = '{TOKEN}'\n");
        std::fs::write(folder.join("config.toml"), text).unwrap();
    };
    for protocol in ["http/protobuf", "http/json", "grpc"] {
        let start = || match protocol {
            "grpc" => Collector::grpc(Manner::Good),
            _ => Collector::start(Manner::Good),
        };
        let has_token = |request: &Request| request.headers.iter().any(|header| header.contains(TOKEN));
        // The collector of the file gets the token.
        let ours = start();
        config(&format!("endpoint = '{}'\n", ours.endpoint), protocol);
        let ended = session_until(&home, &[], &[], 1, || {
            wait_until("the spans", || ours.spans().len() == 3);
        });
        assert_eq!(ended.stderr, "", "{protocol}");
        assert!(ours.requests().iter().all(has_token), "{protocol}");
        // Another collector gets the spans alone, also if the file has no endpoint.
        let theirs = start();
        let named = [("SPANTAP_OTLP_ENDPOINT", theirs.endpoint.as_str())];
        let variable = [("OTEL_EXPORTER_OTLP_ENDPOINT", theirs.endpoint.as_str())];
        let both = format!("endpoint = '{}'\n", ours.endpoint);
        for (endpoint, options, variables) in [
            (both.as_str(), &["--otlp", theirs.endpoint.as_str()][..], &[][..]),
            (&both, &[], &named),
            ("", &[], &variable),
        ] {
            config(endpoint, protocol);
            let before = theirs.spans().len();
            let ended = session_until(&home, options, variables, 1, || {
                wait_until("the spans", || theirs.spans().len() == before + 3);
            });
            let warning = "does not get the headers and certificates of the config file";
            assert_eq!(ended.stderr.matches(warning).count(), 1, "{protocol}: {}", ended.stderr);
        }
        config(&both, protocol);
        for command in ["export", "doctor"] {
            let run = home.spantap([command, "--otlp", &theirs.endpoint]).output().unwrap();
            let (printed, said) =
                (String::from_utf8(run.stdout).unwrap(), String::from_utf8(run.stderr).unwrap());
            assert!(run.status.success(), "{command}: {printed}{said}");
            assert!((printed + &said).contains("headers and certificates of the config file"), "{command}");
        }
        assert!(!theirs.requests().iter().any(has_token), "{protocol}");
        assert!(!ours.requests().is_empty() && ours.requests().iter().all(has_token), "{protocol}");
    }
}

/// An entry can name a proxy in its environment.
#[test]
fn the_token_of_the_config_file_does_not_go_through_a_proxy_that_can_read_it() {
    let home = Home::new();
    let folder = home.path().join(".config/spantap");
    std::fs::create_dir_all(&folder).unwrap();
    let endpoint = "http://collector.invalid:4318";
    for (config, options, is_asked) in [
        (format!("[otlp]\nendpoint = '{endpoint}'\nheaders.authorization = 'x'\n"), &[][..], false),
        (format!("[otlp]\nendpoint = '{endpoint}'\n"), &[][..], true),
        (String::new(), &["--otlp", endpoint][..], true),
    ] {
        std::fs::write(folder.join("config.toml"), config).unwrap();
        let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", proxy.local_addr().unwrap());
        let ended = session(&home, options, &[("HTTP_PROXY", &address)], 1);
        assert!(ended.is_success);
        proxy.set_nonblocking(true).unwrap();
        assert_eq!(proxy.accept().is_ok(), is_asked, "{options:?}: {}", ended.stderr);
    }
}
