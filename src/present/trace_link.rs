//! The address of a trace in a tracing backend, made from the template of the setting `links.trace`.

use crate::present::Printable;

/// A template such as `https://tempo.example/trace/{trace_id}`, and how its addresses are written.
#[derive(Clone, Debug)]
pub struct TraceLink {
    pub(crate) template: String,
    /// True if the output is a terminal that knows hyperlinks (OSC 8).
    pub(crate) is_marked: bool,
}

impl TraceLink {
    /// Returns the address of a trace or of a span of it. `None` if an id that the template needs is missing or is not
    /// hexadecimal.
    pub(crate) fn url(&self, trace_id: &str, span_id: &str) -> Option<Printable> {
        let mut url = self.template.clone();
        for (name, id, length) in [("{trace_id}", trace_id, 32), ("{span_id}", span_id, 16)] {
            if url.contains(name) {
                let is_id = id.len() == length && id.bytes().all(|byte| byte.is_ascii_hexdigit());
                url = is_id.then(|| url.replace(name, id))?;
            }
        }
        Some(url.into())
    }

    /// Returns the address as text. A terminal opens it as one link, even if it goes over several lines.
    pub(crate) fn text(&self, trace_id: &str, span_id: &str) -> Option<String> {
        let url = self.url(trace_id, span_id)?;
        Some(match self.is_marked {
            true => format!("\u{1b}]8;;{url}\u{1b}\\{url}\u{1b}]8;;\u{1b}\\"),
            false => url.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_made_of_ids_only() {
        let link = |template: &str| TraceLink { template: template.to_owned(), is_marked: false };
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let both = link("https://a/{trace_id}?span={span_id}");
        assert_eq!(&*both.url(trace, span).unwrap(), format!("https://a/{trace}?span={span}"));
        assert_eq!(both.url(trace, ""), None);
        assert_eq!(link("https://a/{trace_id}").text(trace, "").unwrap(), format!("https://a/{trace}"));
        for hostile in ["", "x", "4bf92f3577b34da6a3ce929d0e0e473\u{1b}", &"{span_id}".repeat(4)] {
            assert_eq!(both.url(hostile, span), None);
        }
        let marked = TraceLink { is_marked: true, ..link("http://a/{span_id}") }.text("", span).unwrap();
        assert_eq!(marked, format!("\u{1b}]8;;http://a/{span}\u{1b}\\http://a/{span}\u{1b}]8;;\u{1b}\\"));
    }
}
