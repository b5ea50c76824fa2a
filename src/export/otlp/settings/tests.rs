//! Settings from flags, tables and variables, as values.

use super::*;

/// Returns the settings with the warnings as texts.
fn texts(
    (settings, warnings): (Option<OtlpSettings>, Vec<OtlpWarning>),
) -> (Option<OtlpSettings>, Vec<String>) {
    (settings, warnings.iter().map(ToString::to_string).collect())
}

fn resolve(flag: Option<&str>, environment: &[(&str, &str)]) -> (Option<OtlpSettings>, Vec<String>) {
    let lookup =
        |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    texts(OtlpSettings::resolve(flag, &OtlpTables::default(), &lookup))
}

fn settings(flag: Option<&str>, environment: &[(&str, &str)]) -> OtlpSettings {
    resolve(flag, environment).0.unwrap()
}

#[test]
fn nothing_is_sent_unless_somebody_asks() {
    assert!(resolve(None, &[]).0.is_none());
    assert!(resolve(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]).0.is_none());
    assert!(resolve(Some("http://h:1"), &[("OTEL_SDK_DISABLED", "TRUE")]).0.is_none());
    assert!(
        resolve(Some("http://h:1"), &[("OTEL_TRACES_EXPORTER", "none"), ("OTEL_METRICS_EXPORTER", "none")])
            .0
            .is_none()
    );
}

#[test]
fn a_base_gets_a_path_and_a_signals_own_endpoint_does_not() {
    let both = settings(
        None,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:1/base/"),
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://m:2/own"),
        ],
    );
    assert_eq!(both.traces.unwrap().endpoint, "http://h:1/base/v1/traces");
    assert_eq!(both.metrics.unwrap().endpoint, "http://m:2/own");
    assert!(both.logs.is_none());
}

#[test]
fn logs_are_sent_when_asked_for_by_name() {
    assert!(settings(Some("http://h:1"), &[]).logs.is_none());
    let asked = settings(Some("http://h:1"), &[("OTEL_LOGS_EXPORTER", "otlp")]);
    assert_eq!(asked.logs.unwrap().endpoint, "http://h:1/v1/logs");
}

#[test]
fn zero_is_no_limit_and_nonsense_is_the_default_with_a_word() {
    let target = |environment: &[(&str, &str)]| {
        let (settings, warnings) = resolve(Some("http://h:1"), environment);
        (settings.unwrap().traces.unwrap(), warnings)
    };
    assert_eq!(target(&[("OTEL_EXPORTER_OTLP_TIMEOUT", "0")]).0.timeout, None);
    let (nonsense, warnings) =
        target(&[("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "smoke")]);
    assert_eq!(nonsense.timeout, Some(TIMEOUT));
    assert_eq!(nonsense.protocol, Protocol::HttpProtobuf);
    assert!(warnings.len() >= 2);
}

#[test]
fn a_secret_among_the_resource_attributes_does_not_leave() {
    let text = "deployment.environment.name=prod,api_key=hunter2hunter2,host.url=https://u:pw12345@h/";
    let resource = settings(Some("http://h:1"), &[("OTEL_RESOURCE_ATTRIBUTES", text)]).resource;
    let told = format!("{resource:?}");
    assert!(!told.contains("hunter2") && !told.contains("pw12345"), "{told}");
    assert!(resource.contains(&("deployment.environment.name".to_owned(), "prod".to_owned())), "{told}");
}

#[test]
fn lists_are_percent_decoded_and_a_broken_one_is_left_out_whole() {
    let right = settings(
        Some("http://h:1"),
        &[("OTEL_RESOURCE_ATTRIBUTES", "a=b%2Cc, service.name=x"), ("OTEL_SERVICE_NAME", "y")],
    );
    assert_eq!(
        right.resource,
        [("a".to_owned(), "b,c".to_owned()), ("service.name".to_owned(), "y".to_owned())]
    );
    let (wrong, warnings) = resolve(Some("http://h:1"), &[("OTEL_RESOURCE_ATTRIBUTES", "a=b,nonsense")]);
    assert!(wrong.unwrap().resource.is_empty());
    assert_eq!(warnings.len(), 1);
}

#[test]
fn headers_are_in_no_debug_text() {
    let settings = settings(
        Some("http://h:1"),
        &[("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20EXAMPLEsecret")],
    );
    let text = format!("{settings:?}");
    assert!(text.contains("authorization") && !text.contains("EXAMPLEsecret"), "{text}");
}

fn with_table(
    flag: Option<&str>,
    table: &str,
    environment: &[(&str, &str)],
) -> (Option<OtlpSettings>, Vec<String>) {
    let lookup =
        |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    let file: OtlpTable = toml::from_str(table).unwrap();
    let tables = OtlpTables { all: file.clone(), file, ..OtlpTables::default() };
    texts(OtlpSettings::resolve(flag, &tables, &lookup))
}

#[test]
fn our_own_settings_win_over_variables_that_may_be_meant_for_the_server() {
    let (settings, warnings) = with_table(
        None,
        "endpoint = 'http://ours:1'\nprotocol = 'grpc'\ntimeout = 3\nresource = { a = 'ours' }",
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://theirs:2"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "9000"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=theirs,b=theirs"),
        ],
    );
    let settings = settings.unwrap();
    let traces = settings.traces.unwrap();
    assert_eq!((traces.endpoint.as_str(), traces.protocol), ("http://ours:1", Protocol::Grpc));
    assert_eq!((traces.timeout, traces.gzip), (Some(Duration::from_secs(3)), true));
    let attribute = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(settings.resource, [attribute("a", "ours"), attribute("b", "theirs")]);
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn each_signal_may_go_elsewhere_and_otherwise() {
    let (settings, _) = with_table(
        None,
        "endpoint = 'http://all:1'\nheaders = { a = '1' }\nlogs = false\n\
         [metrics]\nendpoint = 'http://metrics:2/own'\nprotocol = 'http/json'\nheaders = { b = '2' }",
        &[("OTEL_LOGS_EXPORTER", "otlp")],
    );
    let OtlpSettings { traces, metrics, logs, .. } = settings.unwrap();
    let (traces, metrics) = (traces.unwrap(), metrics.unwrap());
    assert_eq!(traces.endpoint, "http://all:1/v1/traces");
    assert_eq!((metrics.endpoint.as_str(), metrics.protocol), ("http://metrics:2/own", Protocol::HttpJson));
    assert_eq!(metrics.headers, [("b".to_owned(), "2".to_owned())]);
    assert!(logs.is_none());
    // The flag is for all of them.
    let (settings, _) = with_table(Some("http://flag:3"), "[logs]\nendpoint = 'http://logs:2'", &[]);
    assert_eq!(settings.unwrap().logs.unwrap().endpoint, "http://flag:3/v1/logs");
}

/// Returns the sources whose credentials a collector gets for its traces, and the warnings. The config file, the
/// command line and the environment have credentials of their own for every signal.
fn trusted(
    flag: &str,
    flags: &str,
    file: &str,
    variables: &[(&str, &str)],
) -> (Vec<&'static str>, Vec<String>) {
    let table = |name: &str, rest: &str| {
        format!(
            "headers = {{ {name} = 'x' }}\ncertificate = '{name}'\nclient_certificate = '{name}'\n\
             client_key = '{name}'\n{rest}"
        )
    };
    let mut environment = vec![
        ("OTEL_EXPORTER_OTLP_HEADERS", "variables=x"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "variables"),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "variables"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "variables"),
    ];
    environment.extend(variables);
    let lookup =
        |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    let mut all: OtlpTable = toml::from_str(&table("file", file)).unwrap();
    let (file, flags) = (all.clone(), toml::from_str::<OtlpTable>(&table("flags", flags)).unwrap());
    all.endpoint = flags.endpoint.clone().or(all.endpoint);
    all.traces = flags.traces.clone().or(all.traces);
    let tables = OtlpTables { flags, file, all };
    let (settings, warnings) =
        OtlpSettings::resolve(Some(flag).filter(|flag| !flag.is_empty()), &tables, &lookup);
    let target = settings.unwrap().traces.unwrap();
    let got: Vec<&str> = ["flags", "file", "variables"]
        .into_iter()
        .filter(|source| target.headers.iter().any(|(name, _)| name == source))
        .collect();
    let nearest = got.first().map(PathBuf::from);
    assert_eq!(
        [target.certificate, target.client_certificate, target.client_key],
        [nearest.clone(), nearest.clone(), nearest],
        "certificates go where the headers go"
    );
    assert_eq!(target.left_out.len(), 3 - got.len());
    (got, warnings.iter().map(ToString::to_string).collect())
}

/// The table of docs/security.md, row by row.
#[test]
fn headers_and_certificates_go_only_to_a_collector_that_their_own_layer_names() {
    const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const OF_TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    let (us, evil) = ("https://us.example", "https://evil.example");
    let ours = format!("endpoint = '{us}'");
    let own = |endpoint: &str| format!("[traces]\nendpoint = '{endpoint}/own'");
    let no = "";
    type Row<'a> = (&'a str, &'a str, &'a str, &'a str, &'a [(&'a str, &'a str)], &'a [&'a str]);
    let rows: &[Row<'_>] = &[
        ("a flag", evil, no, no, &[], &["flags", "variables"]),
        ("a flag over the file", evil, no, &ours, &[], &["flags", "variables"]),
        ("a flag over the file's own", evil, no, &own(us), &[], &["flags", "variables"]),
        ("a flag over a variable", evil, no, no, &[(ENDPOINT, us)], &["flags"]),
        ("a flag over a signal's variable", evil, no, no, &[(OF_TRACES, us)], &["flags"]),
        (
            "a flag beside another signal's variable",
            evil,
            no,
            no,
            &[("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", us)],
            &["flags"],
        ),
        ("an entry of --otlp-set over the file", no, &own(evil), &ours, &[], &["flags", "variables"]),
        ("the file", no, no, &ours, &[], &["file"]),
        ("the file's own", no, no, &own(us), &[], &["file"]),
        ("the file over a variable", no, no, &ours, &[(ENDPOINT, evil)], &["file"]),
        ("a variable", no, no, no, &[(ENDPOINT, evil)], &["flags", "variables"]),
        ("a signal's variable", no, no, no, &[(OF_TRACES, evil)], &["flags", "variables"]),
        ("this machine", no, no, no, &[("OTEL_TRACES_EXPORTER", "otlp")], &["flags", "variables"]),
        ("the same collector", us, no, &ours, &[], &["flags", "file", "variables"]),
        (
            "the same collector, spelt otherwise",
            "https://US.example:443/",
            no,
            &ours,
            &[],
            &["flags", "file", "variables"],
        ),
        ("the same in all three", us, no, &ours, &[(ENDPOINT, us)], &["flags", "file", "variables"]),
        ("another path", "https://us.example/other", no, &ours, &[], &["flags", "variables"]),
        ("a path above", "https://us.example", no, &own(us), &[], &["flags", "variables"]),
        (
            "another tenant",
            "https://us.example/b",
            no,
            "endpoint = 'https://us.example/a'",
            &[],
            &["flags", "variables"],
        ),
        (
            "another spelling of a path",
            "https://us.example/a/../b",
            no,
            "endpoint = 'https://us.example/b'",
            &[],
            &["flags", "variables"],
        ),
        ("another query", "https://us.example/?b", no, &ours, &[], &["flags", "variables"]),
        (
            "the same path",
            "https://us.example/a",
            no,
            "endpoint = 'https://us.example/a/'",
            &[],
            &["flags", "file", "variables"],
        ),
        (
            "the path of the signal, written out",
            "https://us.example",
            no,
            "[traces]\nendpoint = 'https://us.example/v1/traces'",
            &[],
            &["flags", "file", "variables"],
        ),
        ("without TLS", "http://us.example", no, &ours, &[], &["flags", "variables"]),
        ("another port", "https://us.example:4318", no, &ours, &[], &["flags", "variables"]),
        ("another host that begins so", "https://us.example.evil", no, &ours, &[], &["flags", "variables"]),
        (
            "another host behind an @",
            "https://us.example@evil.example",
            no,
            &ours,
            &[],
            &["flags", "variables"],
        ),
    ];
    for (row, flag, flags, file, variables, expected) in rows {
        let (got, warnings) = trusted(flag, flags, file, variables);
        assert_eq!(got, *expected, "{row}");
        // The signals have the same sources, so each source is named once, or once for each of two collectors.
        let left_out = |source: &str| warnings.iter().any(|warning| warning.contains(source));
        for (source, name) in
            [("flags", "--otlp-set"), ("file", "the config file"), ("variables", "OTEL_* variables")]
        {
            assert!(got.contains(&source) || left_out(name), "{row}: {warnings:?}");
        }
    }
}

#[test]
fn headers_of_the_file_go_through_no_proxy_that_may_read_them() {
    const AUTHORITIES: &[(&str, &str)] = &[("SSL_CERT_FILE", "/x")];
    let (tls, plain, headers) =
        ("endpoint = 'https://h'\n", "endpoint = 'http://h'\n", "headers = { a = 'b' }\n");
    let authority = "certificate = '/y'";
    for (table, variables, is_direct) in [
        ([tls, headers, ""], &[][..], false),
        ([tls, headers, ""], AUTHORITIES, true),
        ([tls, headers, authority], AUTHORITIES, false),
        ([tls, "", ""], AUTHORITIES, false),
        ([plain, headers, authority], &[], true),
        ([plain, "", ""], &[], false),
    ] {
        let (settings, _) = with_table(None, &table.concat(), variables);
        assert_eq!(settings.unwrap().traces.unwrap().is_direct, is_direct, "{table:?} {variables:?}");
    }
    // An authority of the entry, for the same collector.
    let flags: OtlpTable = toml::from_str("endpoint = 'https://h'\ncertificate = '/x'").unwrap();
    let file: OtlpTable = toml::from_str(&[tls, headers, authority].concat()).unwrap();
    let tables = OtlpTables { flags, all: file.clone(), file };
    assert!(OtlpSettings::resolve(None, &tables, &|_| None).0.unwrap().traces.unwrap().is_direct);
    // A blank before the endpoint changes nothing.
    let flags: OtlpTable = toml::from_str("[traces]\nendpoint = ' http://h/v1/traces'").unwrap();
    let file: OtlpTable = toml::from_str(&[plain, headers].concat()).unwrap();
    let all = OtlpTable { traces: flags.traces.clone(), ..file.clone() };
    let tables = OtlpTables { flags, file, all };
    assert!(OtlpSettings::resolve(None, &tables, &|_| None).0.unwrap().traces.unwrap().is_direct);
}

#[test]
fn a_collector_of_the_file_gets_tls_whatever_a_variable_says() {
    let endpoint = |flag, table| {
        let (settings, _) = with_table(flag, table, &[("OTEL_EXPORTER_OTLP_INSECURE", "true")]);
        settings.unwrap().traces.unwrap().endpoint
    };
    assert_eq!(endpoint(None, "endpoint = 'h:4317'\nprotocol = 'grpc'"), "https://h:4317");
    assert_eq!(endpoint(Some("h:4317"), "protocol = 'grpc'"), "http://h:4317");
    // The entry names the same collector, which therefore gets the headers of the file.
    let file = "endpoint = 'h:4317'\nprotocol = 'grpc'\nheaders = { a = 'b' }";
    assert_eq!(endpoint(Some("h:4317"), file), "https://h:4317");
}

#[test]
fn a_header_of_the_file_replaces_one_of_the_environment_whatever_its_case() {
    let (settings, _) = with_table(
        None,
        "endpoint = 'http://h:1'\nheaders = { Authorization = 'ours' }",
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:1"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=theirs"),
        ],
    );
    assert_eq!(settings.unwrap().traces.unwrap().headers, [("Authorization".to_owned(), "ours".to_owned())]);
}

#[test]
fn exporters_are_a_list_and_standard_output_is_none_of_them() {
    let traces = |value: &str| {
        let (settings, warnings) = resolve(Some("http://h:1"), &[("OTEL_TRACES_EXPORTER", value)]);
        (settings.unwrap().traces.is_some(), warnings.len())
    };
    assert_eq!(traces("otlp"), (true, 0));
    assert_eq!(traces("OTLP,console"), (true, 1));
    assert_eq!(traces("none"), (false, 0));
    assert_eq!(traces("console"), (false, 1));
    assert_eq!(traces("smoke"), (true, 1), "an unknown word is ignored");
    assert!(resolve(None, &[("OTEL_TRACES_EXPORTER", "console")]).0.is_none());
    let default = settings(None, &[("OTEL_TRACES_EXPORTER", "otlp")]);
    assert_eq!(default.traces.unwrap().endpoint, "http://localhost:4318/v1/traces");
    assert!(default.metrics.is_none());
}

#[test]
fn an_endpoint_without_scheme_is_for_grpc_alone_and_secure_unless_said_otherwise() {
    let endpoint = |variables: &[(&str, &str)]| {
        let mut all = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "host:4317")];
        all.extend(variables);
        resolve(None, &all).0.map(|settings| settings.traces.unwrap().endpoint)
    };
    let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    assert_eq!(endpoint(&[]), None);
    assert_eq!(endpoint(&[grpc]).as_deref(), Some("https://host:4317"));
    assert_eq!(
        endpoint(&[grpc, ("OTEL_EXPORTER_OTLP_INSECURE", "True")]).as_deref(),
        Some("http://host:4317")
    );
    assert!(resolve(Some("ftp://h:1"), &[]).0.is_none());
}

#[test]
fn batches_queues_and_intervals_are_as_the_variables_say() {
    let settings = settings(
        Some("http://h:1"),
        &[
            ("OTEL_BSP_SCHEDULE_DELAY", "250"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
            ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "7"),
            ("OTEL_BLRP_MAX_QUEUE_SIZE", "0"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "2500"),
            ("OTEL_BSP_EXPORT_TIMEOUT", "400"),
            ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "0"),
            ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "12"),
        ],
    );
    let millis = Duration::from_millis;
    assert_eq!(settings.span_limits, QueueLimits { queue: 100, batch: 100, interval: millis(250) });
    assert_eq!(settings.log_limits, QueueLimits { batch: 7, ..LIMITS });
    assert_eq!(settings.metric_interval, millis(2500));
    assert_eq!(settings.traces.unwrap().timeout, Some(millis(400)));
    assert_eq!(settings.metrics.unwrap().timeout, None);
    assert_eq!(settings.value_length, Some(12));
}

#[test]
fn a_sampler_that_does_not_exist_is_the_default_with_a_word() {
    let sampler = |name, ratio| {
        let variables = [("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", ratio)];
        let (settings, warnings) = resolve(Some("http://h:1"), &variables);
        (settings.unwrap().sampler, warnings.len())
    };
    assert_eq!(sampler("xray", ""), (Sampler::default(), 1));
    assert_eq!(sampler("traceidratio", "0.25"), (Sampler { parent_based: false, share: 0.25 }, 0));
    assert_eq!(sampler("parentbased_traceidratio", "7"), (Sampler::default(), 1));
}

#[test]
fn paths_of_certificates_are_read_as_other_path_settings() {
    let home = crate::system::files::home::folder().unwrap();
    let table = "endpoint = 'https://h'\ncertificate = '~/a.pem'\nclient_certificate = '$HOME/b.pem'\n\
                 [traces]\nclient_key = '${HOME}/c.pem'";
    let traces = with_table(None, table, &[]).0.unwrap().traces.unwrap();
    let files = [traces.certificate, traces.client_certificate, traces.client_key];
    assert_eq!(files, ["a.pem", "b.pem", "c.pem"].map(|name| Some(home.join(name))));
    let variable = "OTEL_EXPORTER_OTLP_CERTIFICATE";
    let with_variable = |path| resolve(Some("https://h"), &[(variable, path)]);
    assert_eq!(with_variable("~/a.pem").0.unwrap().traces.unwrap().certificate, Some(home.join("a.pem")));
    for path in ["%HOME%/a.pem", "file:///a.pem", "{{HOME}}/a.pem"] {
        let in_table = format!("endpoint = 'https://h'\ncertificate = '{path}'");
        for (settings, _) in [with_variable(path), with_table(None, &in_table, &[])] {
            let certificate = settings.unwrap().traces.unwrap().certificate;
            assert!(!certificate.expect("not the system's authorities").exists());
        }
    }
}
