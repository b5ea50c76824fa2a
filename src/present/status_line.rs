//! `status --line`: what needs attention now, in a few words for shell prompts and status bars.

use std::collections::BTreeSet;
use std::io::{self, Write};

use crate::present::format;
use crate::present::table::Tone;
use crate::query::attention::Attention;

/// Most names of one kind; the rest is counted.
const NAMES: usize = 3;
/// Most characters of a name.
const LENGTH: usize = 20;

/// Writes the line; nothing if no server runs and none needs attention.
pub(crate) fn write(out: &mut dyn Write, attention: &Attention, unicode: bool) -> io::Result<()> {
    let sign = |sign: &'static str, word: &'static str| if unicode { sign } else { word };
    let mut parts: Vec<(String, Tone)> = Vec::new();
    let mut names = |sign: &str, names: &BTreeSet<String>, tone: Tone| {
        parts.extend(names.iter().take(NAMES).map(|name| (format!("{sign}{}", plain(name)), tone)));
        if names.len() > NAMES {
            parts.push((format!("{sign}+{}", names.len() - NAMES), tone));
        }
    };
    names(sign("✖", "dead:"), &attention.ended, Tone::Bad);
    names(sign("…", "hang:"), &attention.hanging, Tone::Warning);
    for (sign, number) in [(sign("↻", "loop:"), attention.repeats), (sign("!", "err:"), attention.errors)] {
        if number > 0 {
            parts.push((format!("{sign}{}", format::count(number)), Tone::Warning));
        }
    }
    if parts.is_empty() && attention.is_running {
        parts.push((sign("✓", "ok").to_owned(), Tone::Good));
    }
    if attention.is_partial {
        parts.push(("?".to_owned(), Tone::Faint));
    }
    if parts.is_empty() {
        return Ok(());
    }
    write!(out, "mcp")?;
    parts.into_iter().try_for_each(|(text, tone)| write!(out, " {}", tone.paint(text)))?;
    writeln!(out)
}

/// Returns the beginning of a name without characters that shells and status bars expand.
fn plain(name: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || ".-/".contains(c) { c } else { '_' };
    name.chars().take(LENGTH).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(attention: &Attention, unicode: bool) -> String {
        let mut out = Vec::new();
        write(&mut out, attention, unicode).unwrap();
        anstream::adapter::strip_bytes(&out).into_vec().try_into().unwrap()
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_line_has_what_needs_attention_and_nothing_else() {
        let healthy = Attention { is_running: true, ..Attention::default() };
        assert_eq!(line(&Attention::default(), true), "");
        assert_eq!([line(&healthy, true), line(&healthy, false)], ["mcp ✓\n", "mcp ok\n"]);
        let ill = Attention {
            ended: names(&["db"]),
            hanging: names(&["query"]),
            repeats: 12,
            errors: 3,
            ..healthy.clone()
        };
        assert_eq!(line(&ill, true), "mcp ✖db …query ↻12 !3\n");
        assert_eq!(line(&ill, false), "mcp dead:db hang:query loop:12 err:3\n");
        let many = Attention { ended: names(&["a", "b", "c", "d", "e"]), is_partial: true, ..healthy };
        assert_eq!(line(&many, true), "mcp ✖a ✖b ✖c ✖+2 ?\n");
    }

    #[test]
    fn nothing_in_a_name_is_expanded_by_a_shell_or_a_status_bar() {
        let name = "$(id)`id`%F{red}#[fg=red]\u{1b}[31m\u{202e}\\u@";
        let hostile = Attention { ended: names(&[name]), ..Attention::default() };
        assert_eq!(line(&hostile, true), "mcp ✖__id__id__F_red___fg\n");
        let long = Attention { hanging: names(&[&"x".repeat(10_000)]), ..Attention::default() };
        assert_eq!(line(&long, true), format!("mcp …{}\n", "x".repeat(20)));
    }
}
