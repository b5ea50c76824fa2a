//! Reads the tool definitions in `result.tools` as their bytes arrive, so that a list may have any size. Each
//! definition is hashed, whatever bytes it has: a definition that is passed over could change unnoticed.

use sha2::{Digest, Sha256};

use crate::observe::lint;
use crate::observe::tool_definition::ToolDefinition;
use crate::observe::tools::UnlistedTools;

/// Longest definition that is kept to be canonicalised, in bytes. A longer one is hashed as it is.
const MAX_DEFINITION: usize = 1 << 20;
/// Bytes of names and hashes that are kept of one message.
const MAX_PAGE: usize = 1 << 20;

/// The tools of one `tools/list` answer.
#[derive(Debug, Default, PartialEq)]
pub struct ToolPage {
    pub tools: Vec<ToolDefinition>,
    /// The definitions without a name that can be read, and those beyond the limit.
    pub unlisted: UnlistedTools,
    /// Bytes of all definitions.
    pub size: u64,
}

/// Cuts an array of definitions into its elements.
#[derive(Default)]
pub(super) struct DefinitionReader {
    page: ToolPage,
    size: usize,
    /// Number of open brackets; 1 between the elements.
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// True if the value is not an array.
    is_other: bool,
    /// The current element, unless it is too long.
    element: Vec<u8>,
    too_long: Option<Sha256>,
    /// Bytes of an element that is too long.
    long_size: u64,
}

impl DefinitionReader {
    /// Takes the next bytes of the value.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let (mut from, mut at) = (0, 0);
        while at < bytes.len() && !self.is_other {
            if self.in_string {
                at = self.string_end(bytes, at);
                continue;
            }
            match bytes[at] {
                b'[' if self.depth == 0 => {
                    self.depth = 1;
                    from = at + 1;
                }
                _ if self.depth == 0 => self.is_other = true,
                b'"' => self.in_string = true,
                b'[' | b'{' => self.depth = self.depth.saturating_add(1),
                b',' if self.depth == 1 => {
                    self.keep(&bytes[from..at]);
                    self.element_ends();
                    from = at + 1;
                }
                b']' | b'}' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        self.keep(&bytes[from..at]);
                        self.element_ends();
                        return;
                    }
                }
                _ => {}
            }
            at += 1;
        }
        if self.depth > 0 {
            self.keep(&bytes[from..]);
        }
    }

    /// Continues in a string at `at`, and returns the next position.
    fn string_end(&mut self, bytes: &[u8], at: usize) -> usize {
        if self.escaped {
            self.escaped = false;
            return at + 1;
        }
        let Some(found) = memchr::memchr2(b'"', b'\\', &bytes[at..]) else { return bytes.len() };
        match bytes[at + found] {
            b'"' => self.in_string = false,
            _ => self.escaped = true,
        }
        at + found + 1
    }

    fn keep(&mut self, bytes: &[u8]) {
        match &mut self.too_long {
            Some(hasher) => {
                hasher.update(bytes);
                self.long_size += bytes.len() as u64;
            }
            None if self.element.len() + bytes.len() > MAX_DEFINITION => {
                let element = std::mem::take(&mut self.element);
                self.long_size = (element.len() + bytes.len()) as u64;
                self.too_long = Some(Sha256::new().chain_update(element).chain_update(bytes));
            }
            None => self.element.extend_from_slice(bytes),
        }
    }

    fn element_ends(&mut self) {
        if let Some(hasher) = self.too_long.take() {
            self.page.size += self.long_size;
            return self.page.unlisted.add(hasher.finalize().into());
        }
        let element = self.element.trim_ascii();
        self.page.size += element.len() as u64;
        // Many hosts read U+FFFD for a byte that is not UTF-8, and go on.
        let text = String::from_utf8_lossy(element);
        if !text.is_empty() {
            match ToolDefinition::read(&text) {
                Ok(mut tool) if self.size + tool.name.len() <= MAX_PAGE => {
                    self.size += tool.name.len() + size_of::<ToolDefinition>();
                    tool.sizes.definition = element.len() as u64;
                    tool.lint = lint::observed(&text);
                    self.page.tools.push(tool);
                }
                Ok(tool) => self.page.unlisted.add(tool.fingerprint.hash),
                Err(hash) => self.page.unlisted.add(hash),
            }
        }
        self.element.clear();
    }

    /// Ends the value, and returns its tools.
    pub(super) fn end(&mut self) -> ToolPage {
        std::mem::take(self).page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &[u8], piece: usize) -> ToolPage {
        let mut reader = DefinitionReader::default();
        json.chunks(piece).for_each(|part| reader.feed(part));
        reader.end()
    }

    fn names(page: &ToolPage) -> Vec<&str> {
        page.tools.iter().map(|tool| tool.name.as_str()).collect()
    }

    #[test]
    fn every_element_is_named_or_counted_however_the_bytes_are_cut() {
        let json = br#" [ {"name":"a,]}\"","x":[{"name":"no"}]}, 7 ,{"name":"b","name":"c"},{"description":"d"},
            {"name":"d","description":"\ud800","x":1e999},{"name":"e\ud800"} , {"name":7}, null,{"name":"f","x":"\xff"}]"#;
        let json = [&json[..json.len() - 7], b"\xff\"}]"].concat();
        let whole = read(&json[1..], usize::MAX);
        assert_eq!(names(&whole), ["a,]}\"", "c", "d", "e\\ud800", "f"]);
        assert_eq!(whole.unlisted.count, 4);
        for piece in 1..40 {
            assert_eq!(read(&json[1..], piece), whole, "in pieces of {piece}");
        }
        for json in [&b"[]"[..], b"[ ]", b"{}", b"\"a\"", b"null", b"{\"a\":[{\"name\":\"a\"}]}"] {
            assert_eq!(read(json, 3), ToolPage::default());
        }
    }

    #[test]
    fn a_list_of_any_size_takes_limited_memory_and_each_definition_counts() {
        let mut reader = DefinitionReader::default();
        let mut hashes = Vec::new();
        for changed in ["a", "b"] {
            reader.feed(b"[");
            (0..20_000).for_each(|n| reader.feed(format!(r#"{{"name":"{n:0200}"}},"#).as_bytes()));
            reader.feed(b"{\"name\":\"long\",\"description\":\"");
            (0..3).for_each(|_| reader.feed(&[b'x'; 1 << 20]));
            reader.feed(format!("{changed}\"}}]").as_bytes());
            let page = reader.end();
            assert!(page.tools.len() < 5000);
            assert_eq!(page.tools.len() as u64 + page.unlisted.count, 20_001);
            hashes.push(page.unlisted);
        }
        assert_ne!(hashes[0], hashes[1]);
    }
}
