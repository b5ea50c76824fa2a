//! Links to traces in a tracing backend.

use super::pager::on_terminal_with;
use super::{spantap, text};

const TEMPLATE: (&str, &str) = ("SPANTAP_LINKS_TRACE", "https://tempo.example/t/{trace_id}?s={span_id}");
/// A call of `fixtures/logs`, its trace and its span.
const CALL: (&str, &str, &str) = ("e8cbc3.4", "f4dd63e43c3433e960c06263bf7348ec", "7431c781361d6161");

fn shown(template: &str, arguments: &str) -> (String, String) {
    let output = spantap(arguments).env("SPANTAP_LINKS_TRACE", template).output().unwrap();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_link_is_a_hyperlink_on_a_terminal_and_a_plain_address_elsewhere() {
    let (handle, trace, span) = CALL;
    let url = format!("https://tempo.example/t/{trace}?s={span}");
    let marked = format!("\u{1b}]8;;{url}\u{1b}\\{url}\u{1b}]8;;\u{1b}\\");
    let show = format!("show {handle} --log-dir fixtures/logs");
    for pager in ["", "sed s/^/paged:/"] {
        let screen = on_terminal_with(&[TEMPLATE], &show, pager).0;
        assert!(screen.contains(&format!("trace link     {marked}")), "{screen}");
    }
    for (name, value) in [("TERM", "dumb"), ("NO_COLOR", "1")] {
        let screen = on_terminal_with(&[TEMPLATE, (name, value)], &show, "").0;
        assert!(screen.contains(&url) && !screen.contains("\u{1b}]8"), "{name}: {screen}");
    }
    for always in ["", " --color always"] {
        let printed = shown(TEMPLATE.1, &(show.clone() + always)).0;
        assert!(printed.contains(&url) && !printed.contains("\u{1b}]8"), "{printed}");
    }
    assert!(!text(&spantap(&show).output().unwrap().stdout).contains("trace link"));
}

#[test]
fn a_session_of_few_traces_links_to_them() {
    let printed = shown("https://tempo.example/t/{trace_id}", "show bf0421e8cbc3 fixtures/logs").0;
    assert_eq!(printed.matches("trace: https://tempo.example/t/").count(), 1, "{printed}");
    let printed = shown(TEMPLATE.1, "show bf0421e8cbc3 fixtures/logs").0;
    assert!(!printed.contains("tempo"), "a session has no span: {printed}");
}

#[test]
fn a_template_that_cannot_be_used_is_one_line_and_no_link() {
    for template in ["javascript:alert({trace_id})", "https://tempo.example/", "https://a/{trace_id}/{org}"] {
        let (printed, said) = shown(template, &format!("show {} --log-dir fixtures/logs", CALL.0));
        assert!(printed.contains("trace ") && !printed.contains("trace link"), "{printed}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(
            said.contains("SPANTAP_LINKS_TRACE: `links.trace` is not an http or https address"),
            "{said}"
        );
        let page = shown(template, "report -o - --log-dir fixtures/logs --since 2026-01-01").0;
        assert!(!page.contains("trace_link\""), "no template in the page");
    }
}

#[test]
fn the_page_has_the_template_as_data() {
    let page = shown(TEMPLATE.1, "report -o - --log-dir fixtures/logs --since 2026-01-01").0;
    assert!(page.contains(&format!("\"trace_link\":\"{}\"", TEMPLATE.1)));
}
