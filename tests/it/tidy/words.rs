//! Words: comments and messages are written in plain technical English.

use std::sync::LazyLock;

use regex::Regex;

use super::code::{Prose, prose};
use super::{pages, sources};

/// Number of refused words in a file that are quoted data, with the reason.
const QUOTED: &[(&str, usize, &str)] = &[("src/observe/redact/detect/url.rs", 1, "name of a user")];

/// Returns the words that are refused in some texts, with their lines.
fn refused(prose: &[Prose]) -> Vec<(usize, String)> {
    static WORDS: LazyLock<Regex> = LazyLock::new(|| {
        let words = "whoever|nobody|somebody|mend|is none|are none|is told|are told|to be had|for good";
        Regex::new(&format!(r"(?i)\b(?:(?:{words})\b|is no )").replace(' ', r"\s+")).unwrap()
    });
    let in_text = |prose: &Prose| {
        let found = WORDS.find_iter(&prose.text);
        let refused = found.filter(|found| !prose.text[found.end()..].starts_with("longer"));
        let word = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let line = |at: usize| prose.line + prose.text[..at].matches('\n').count();
        refused.map(|found| (line(found.start()), word(found.as_str()))).collect::<Vec<_>>()
    };
    prose.iter().flat_map(in_text).collect()
}

/// Returns the texts of a Markdown page, without code.
fn prose_of_page(page: &str) -> Vec<Prose> {
    let mut prose = Vec::new();
    let mut is_code = false;
    for (line, text) in page.lines().enumerate() {
        is_code ^= text.trim_start().starts_with("```");
        if !is_code {
            let text = text.split('`').step_by(2).collect::<Vec<_>>().join("`");
            prose.push(Prose { line: line + 1, text });
        }
    }
    prose
}

#[test]
fn comments_messages_and_pages_have_no_refused_word() {
    let texts = sources("src").into_iter().chain(sources("tests"));
    let texts = texts.map(|source| (prose(&source.text), source.path));
    let pages = pages().into_iter().map(|(path, text)| (prose_of_page(&text), path));
    let mut places = Vec::new();
    let mut counts: Vec<(String, usize)> = Vec::new();
    for (prose, path) in texts.chain(pages).filter(|(_, path)| path != "tests/it/tidy/words.rs") {
        let found = refused(&prose).into_iter();
        let found: Vec<String> = found.map(|(line, word)| format!("{path}:{line}: {word}")).collect();
        if !found.is_empty() {
            counts.push((path, found.len()));
            places.extend(found);
        }
    }
    counts.sort();
    let quoted = QUOTED.iter().map(|(path, count, _)| ((*path).to_owned(), *count));
    assert!(quoted.eq(counts), "{places:#?}");
}

#[test]
fn refused_words_are_found_in_comments_and_texts_only() {
    let source = r#"
//! It is
//! no setting.
/// Told to whoever reads.
fn nobody_calls() {
    // There was none, `is none`.
    say("it is told", 'n', b"for good");
    /* recommended, and it is no longer */
}
"#;
    let expected = ["2: is no", "4: whoever", "7: is told", "7: for good"];
    let places = |prose: &[Prose]| refused(prose).into_iter().map(|(line, word)| format!("{line}: {word}"));
    assert_eq!(places(&prose(source)).collect::<Vec<_>>(), expected);
    let page = "It is no\n```\nnobody\n```\nSomebody else, `nobody`.";
    assert_eq!(places(&prose_of_page(page)).collect::<Vec<_>>(), ["5: Somebody"]);
}
