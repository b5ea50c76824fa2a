//! A redacted body as indented JSON.

use crate::present::Printable;

/// Returns the lines of a JSON text, indented. A text that was cut within is indented as far as it goes.
pub(super) fn lines(json: &str) -> Vec<Printable> {
    let mut text = String::with_capacity(json.len());
    let mut depth = 0_usize;
    let mut characters = json.chars().peekable();
    let (mut in_string, mut is_escaped) = (false, false);
    let begin_line = |text: &mut String, depth: usize| {
        text.push('\n');
        text.extend(std::iter::repeat_n(' ', 2 * depth.min(40)));
    };
    while let Some(c) = characters.next() {
        if in_string {
            text.push(c);
            in_string = is_escaped || c != '"';
            is_escaped = c == '\\' && !is_escaped;
            continue;
        }
        match c {
            '{' | '[' if matches!(characters.peek(), Some('}' | ']')) => {
                text.push(c);
                text.extend(characters.next());
            }
            '{' | '[' => {
                depth += 1;
                text.push(c);
                begin_line(&mut text, depth);
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                begin_line(&mut text, depth);
                text.push(c);
            }
            ',' => {
                text.push(c);
                begin_line(&mut text, depth);
            }
            ':' => text.push_str(": "),
            ' ' | '\t' | '\r' | '\n' => {}
            _ => {
                in_string = c == '"';
                text.push(c);
            }
        }
    }
    text.lines().map(Printable::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_indented_and_its_strings_stay() {
        let text = |json: &str| lines(json).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert_eq!(
            text(r#"{"a":[1,{}],"b":"x, \"{y}\"" }"#),
            "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": \"x, \\\"{y}\\\"\"\n}"
        );
        assert_eq!(text(r#"{"a":"cut"#), "{\n  \"a\": \"cut");
        assert_eq!(text("]]]"), "\n]\n]\n]");
    }
}
