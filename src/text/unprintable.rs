//! Characters that must not reach a log line or a terminal as they are.

/// Returns true for control characters and for the line and paragraph separators.
pub(crate) fn is_control(c: char) -> bool {
    matches!(c, '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{2028}' | '\u{2029}')
}

/// Returns true for bidi controls, zero-width characters, fillers, the soft hyphen and tags: a program
/// reads them, a person does not see them.
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Returns true if `c` can move a terminal's cursor, is invisible, or changes how the text around it looks.
pub(crate) fn is_unprintable(c: char) -> bool {
    is_control(c) || is_invisible(c)
}
