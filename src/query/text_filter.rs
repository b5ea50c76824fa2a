//! Tells lines that can have a text in a value from those that cannot, by their bytes.

use memchr::memmem::Finder;

/// Finds lines that can have a text in a value. Searching the bytes takes a small part of the time of parsing them.
#[derive(Clone, Debug)]
pub(super) struct TextFilter {
    /// `None` if JSON can write the text in several ways without `\u`; then every line can have it.
    text: Option<Finder<'static>>,
    escape: Finder<'static>,
}

impl TextFilter {
    pub(super) fn new(text: &str) -> TextFilter {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        let text = text.bytes().all(is_plain).then(|| Finder::new(text).into_owned());
        TextFilter { text, escape: Finder::new("\\u") }
    }

    /// Returns false if no value of the line contains the text.
    pub(super) fn can_have(&self, line: &[u8]) -> bool {
        let Some(text) = &self.text else { return true };
        text.find(line).is_some() || self.escape.find(line).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_has_the_text_in_any_way_passes() {
        let filter = TextFilter::new("a1-2");
        for line in [r#"{"a":"xa1-2y"}"#, r#"{"a":"\u00611-2"}"#, r#"{"a":"\\","b":"a1-2"}"#] {
            assert!(filter.can_have(line.as_bytes()), "{line}");
        }
        assert!(!filter.can_have(br#"{"a":"a1-3","b":"\n"}"#));
    }

    #[test]
    fn a_text_that_can_be_written_in_several_ways_is_not_searched_for() {
        for text in ["a/b", "a\"b", "a\\b", "日本", "a b"] {
            assert!(TextFilter::new(text).can_have(b"{}"), "{text}");
        }
        assert!(TextFilter::new("").can_have(b"{}"));
    }
}
