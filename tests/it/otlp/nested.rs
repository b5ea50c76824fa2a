//! One spantap around another: the collector gets each call once, and never less than that.

use std::collections::BTreeSet;

use super::collector::{Collector, Manner};
use crate::support::run::Run;
use crate::support::{Home, SPANTAP};

/// Runs five calls through `outer` and an inner spantap. Returns the names of the servers whose spans arrived, the
/// number of spans of calls, and the names of the servers whose metrics arrived.
fn calls(
    outer: &[&str],
    inner: &[&str],
    collectors: &[&Collector],
) -> (BTreeSet<String>, usize, BTreeSet<String>) {
    let home = Home::new();
    let run = Run::wrapping_sample().home(&home).options(&["--server", "inner"]).options(inner).unhurried();
    let mut session = run.launched_by(outer).start();
    session.calls(5);
    let (status, stderr) = session.end();
    assert!(status.success(), "{stderr}");
    let spans = collectors.iter().flat_map(|collector| collector.spans_of_resources());
    let spans: Vec<_> = spans.filter(|(_, span)| span.name.starts_with("tools/call")).collect();
    let servers = spans.iter().map(|(resource, _)| resource.clone());
    let names = servers.filter_map(|resource| {
        let (_, rest) = resource.split_once("service.name=")?;
        Some(rest.chars().take_while(char::is_ascii_alphabetic).collect::<String>())
    });
    let (names, count) = (names.collect(), spans.len());
    let requests = collectors.iter().flat_map(|collector| collector.requests());
    let points: Vec<_> = requests.filter(|request| request.path == "/v1/metrics").collect();
    let measures = |name: &&&str| {
        let is_in = |body: &[u8]| body.windows(name.len()).any(|window| window == name.as_bytes());
        points.iter().any(|request| is_in(&request.body))
    };
    let measured = ["inner", "outer"].iter().filter(measures).map(|name| (*name).to_owned()).collect();
    (names, count, measured)
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Returns the words of the outer spantap, without those of its server.
fn outer<'a>(options: &[&'a str]) -> Vec<&'a str> {
    [&[SPANTAP, "run", "--server", "outer"], options, &["--"]].concat()
}

#[test]
fn a_collector_gets_each_call_of_two_nested_spantaps_once() {
    // Both export to the same collector: the outer one does.
    let collector = Collector::start(Manner::Good);
    let otlp = collector.endpoint.as_str();
    let (servers, spans, measured) = calls(&outer(&["--otlp", otlp]), &["--otlp", otlp], &[&collector]);
    assert_eq!((servers, spans, measured), (names(&["outer"]), 5, names(&["outer"])));
    // The outer one exports nothing, or only what the inner one does not.
    for options in [&[][..], &["--otlp-set", "traces=false"]] {
        let collector = Collector::start(Manner::Good);
        let otlp = collector.endpoint.as_str();
        let mut outer_options = options.to_vec();
        if !options.is_empty() {
            outer_options.extend(["--otlp", otlp]);
        }
        let (servers, spans, measured) = calls(&outer(&outer_options), &["--otlp", otlp], &[&collector]);
        assert_eq!((servers, spans), (names(&["inner"]), 5), "{options:?}");
        assert_eq!(measured.len(), 1, "{options:?}: {measured:?}");
    }
    // They export to different collectors.
    let (one, two) = (Collector::start(Manner::Good), Collector::start(Manner::Good));
    let (first, second) = (one.endpoint.as_str(), two.endpoint.as_str());
    let (servers, spans, _) = calls(&outer(&["--otlp", first]), &["--otlp", second], &[&one, &two]);
    assert_eq!((servers, spans), (names(&["inner", "outer"]), 10));
}

#[cfg(unix)]
#[test]
fn a_launcher_between_two_spantaps_is_passed_over_and_a_server_of_its_own_pipes_is_not() {
    let collector = Collector::start(Manner::Good);
    let otlp = collector.endpoint.as_str();
    let launched = [outer(&["--otlp", otlp]), vec!["bash", "-c", "\"$@\"; exit $?", "launcher"]].concat();
    let (servers, spans, _) = calls(&launched, &["--otlp", otlp], &[&collector]);
    assert_eq!((servers, spans), (names(&["outer"]), 5));
    // A server that starts a wrapped server for itself: its calls are other calls.
    let collector = Collector::start(Manner::Good);
    let otlp = collector.endpoint.as_str();
    let itself = [outer(&["--otlp", otlp]), vec!["bash", "-c", "cat | \"$@\" | cat", "server"]].concat();
    let (servers, spans, _) = calls(&itself, &["--otlp", otlp], &[&collector]);
    assert_eq!((servers, spans), (names(&["inner", "outer"]), 10));
}
