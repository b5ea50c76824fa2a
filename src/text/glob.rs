//! The patterns of flags, settings and prices: `*` matches any text, `?` matches one character.

/// A pattern. It matches a text as a whole, never a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    pub fn new(pattern: impl Into<String>) -> Glob {
        Glob(pattern.into())
    }

    /// Returns true if the whole of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        let (mut pattern, mut rest) = (self.0.chars(), text.chars());
        // The pattern after its last `*`, and the text that this `*` has not taken yet.
        let mut after_star = None;
        loop {
            let untaken = rest.clone();
            match (pattern.next(), rest.next()) {
                (Some('*'), _) => {
                    rest = untaken;
                    after_star = Some((pattern.clone(), rest.clone()));
                }
                (None, None) => return true,
                (Some(_), None) => return false,
                (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {}
                _ => {
                    let Some((from, taken)) = &mut after_star else { return false };
                    taken.next();
                    (pattern, rest) = (from.clone(), taken.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_matches_the_whole_name() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("git*", "github", true),
            ("git", "github", false),
            ("*hub", "github-hub", true),
            ("g?t*u*", "github", true),
            ("g?t", "gt", false),
            ("g?t", "gét", true),
            ("*a*b*c", "aabbcc", true),
            ("a*b*c", "acb", false),
            ("é*", "état", true),
            ("", "", true),
            ("", "x", false),
            ("x*?", "x", false),
        ] {
            assert_eq!(Glob::new(pattern).matches(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_takes_no_exponential_time() {
        let pattern = format!("{}b", "a*".repeat(60));
        assert!(!Glob::new(pattern).matches(&"a".repeat(4000)));
    }
}
