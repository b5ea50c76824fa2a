//! Rust sources as tokens, and the comments and literal texts in them.

use std::ops::Range;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A word, a sign, a literal, or one side of a pair of brackets.
pub struct Token {
    pub text: String,
    range: Range<usize>,
    is_literal: bool,
}

/// Returns the tokens of a Rust source in their order.
pub fn tokens(source: &str) -> Vec<Token> {
    let stream: TokenStream = source.parse().unwrap_or_else(|error| panic!("{error}: {source}"));
    let mut tokens = Vec::new();
    flatten(stream, &mut tokens);
    tokens
}

fn flatten(stream: TokenStream, tokens: &mut Vec<Token>) {
    for tree in stream {
        let mut push = |text: String, span: proc_macro2::Span, is_literal: bool| {
            tokens.push(Token { text, range: span.byte_range(), is_literal });
        };
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                push(open.to_owned(), group.span_open(), false);
                flatten(group.stream(), tokens);
                let range = group.span_close().byte_range();
                tokens.push(Token { text: close.to_owned(), range, is_literal: false });
            }
            TokenTree::Ident(ident) => push(ident.to_string(), ident.span(), false),
            TokenTree::Punct(punct) => push(punct.as_char().to_string(), punct.span(), false),
            TokenTree::Literal(literal) => push(literal.to_string(), literal.span(), true),
        }
    }
}

/// Returns true if the tokens from `at` on are these.
pub fn is_at(tokens: &[Token], at: usize, expected: &[&str]) -> bool {
    tokens.len() >= at + expected.len()
        && tokens[at..].iter().zip(expected).all(|(token, expected)| token.text == *expected)
}

/// Returns the tokens without items that are compiled for tests only.
pub fn without_tests(mut tokens: Vec<Token>) -> Vec<Token> {
    let mut at = 0;
    while at < tokens.len() {
        if is_at(&tokens, at, &["#", "[", "cfg", "("]) {
            let end = end_of_group(&tokens, at + 1);
            let condition = &tokens[at + 3..end];
            let has = |word: &str| condition.iter().any(|token| token.text == word);
            if has("test") && !has("not") {
                let end = end_of_item(&tokens, end);
                tokens.drain(at..end);
                continue;
            }
        }
        at += 1;
    }
    tokens
}

/// Returns the place after the group that opens at `at`.
fn end_of_group(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0;
    for (place, token) in tokens.iter().enumerate().skip(at) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return place + 1;
        }
    }
    tokens.len()
}

/// Returns the place after the item that begins at `at`, with its attributes.
fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    let mut is_import = false;
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            ";" => return at + 1,
            "{" if !is_import => return end_of_group(tokens, at),
            "{" | "(" | "[" => at = end_of_group(tokens, at),
            word => {
                is_import |= word == "use";
                at += 1;
            }
        }
    }
    at
}

/// Returns the paths that the tokens name below `root`, such as `observe::event::Event` for the root `crate`.
/// A tree of imports gives one path for each leaf.
pub fn paths(tokens: &[Token], root: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for at in 0..tokens.len() {
        // A visibility such as `pub(in crate::export)` does not name the module.
        let is_part = at > 0 && [":", "in"].contains(&tokens[at - 1].text.as_str());
        if is_at(tokens, at, &[root, ":", ":"]) && !is_part {
            branches(tokens, at + 3, String::new(), &mut paths);
        }
    }
    paths
}

/// Adds the paths that begin at `at`, each after `before`. Returns the place after them.
fn branches(tokens: &[Token], mut at: usize, mut before: String, paths: &mut Vec<String>) -> usize {
    loop {
        let word = tokens[at].text.as_str();
        if word == "{" {
            at += 1;
            while tokens[at].text != "}" {
                at = branches(tokens, at, before.clone(), paths);
                while tokens[at].text != "}" && tokens[at].text != "," {
                    at += 1;
                }
                if tokens[at].text == "," {
                    at += 1;
                }
            }
            return at + 1;
        }
        before.push_str(word);
        at += 1;
        if !is_at(tokens, at, &[":", ":"]) || tokens.get(at + 2).is_some_and(|next| next.text == "<") {
            paths.push(before);
            return at;
        }
        before.push_str("::");
        at += 2;
    }
}

/// A comment or a literal text, without backticked code. It may have several lines.
pub struct Prose {
    pub line: usize,
    pub text: String,
}

/// Returns what a source contains in words: its comments and its literal texts.
pub fn prose(source: &str) -> Vec<Prose> {
    let mut found = Vec::new();
    let mut add = |at: usize, raw: &str| {
        let at = at + (raw.len() - raw.trim_start().len());
        let lines = raw.trim().lines().map(|line| line.trim().trim_start_matches(['/', '!', '*']));
        let text = lines.collect::<Vec<_>>().join("\n");
        let text = text.split('`').step_by(2).collect::<Vec<_>>().join("`");
        found.push(Prose { line: 1 + source[..at].matches('\n').count(), text });
    };
    let mut end = 0;
    for token in tokens(source) {
        let text = &source[token.range.clone()];
        // A doc comment is parsed into tokens that have the comment's range, or its first or last byte.
        let is_of_comment = text.starts_with('/') && token.text != "/" || token.text == "]" && text != "]";
        if is_of_comment || token.range.start < end {
            continue;
        }
        let between = &source[end..token.range.start];
        if between.contains('/') {
            add(end, between);
        }
        if token.is_literal && text.contains('"') {
            add(token.range.start, text);
        }
        end = token.range.end;
    }
    add(end, &source[end..]);
    found
}
