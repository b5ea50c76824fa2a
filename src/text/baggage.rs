//! Reads lists of names and values in the form of W3C Baggage.

/// Reads `name=value,name=value`, percent-encoded (W3C Baggage without properties). Returns `None` if an entry is
/// broken.
pub(crate) fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    entries.map(pair).collect()
}

/// Reads `name,name=value`, percent-encoded like [`pairs`]. Returns each entry decoded, as `name` or `name=value`; `None` if
/// an entry is broken.
pub(crate) fn names_and_pairs(text: &str) -> Option<Vec<String>> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let decode = |entry: &str| match entry.contains('=') {
        true => pair(entry).map(|(name, value)| format!("{name}={value}")),
        false => Some(entry.to_owned()),
    };
    entries.map(decode).collect()
}

/// Returns the value of the first of `keys` that the header `baggage` contains. Ignores properties and broken entries.
pub(crate) fn value(header: &str, keys: &[&str]) -> Option<String> {
    let entries = header.split(',').filter_map(|entry| pair(entry.split(';').next().unwrap_or_default()));
    let entries: Vec<_> =
        entries.filter(|(name, value)| keys.contains(&&**name) && !value.is_empty()).collect();
    let of = |key: &&str| entries.iter().find(|(name, _)| name == key);
    keys.iter().find_map(of).map(|(_, value)| value.clone())
}

fn pair(entry: &str) -> Option<(String, String)> {
    let (name, value) = entry.split_once('=')?;
    let name = name.trim();
    (!name.is_empty()).then_some(())?;
    Some((name.to_owned(), decoded(value.trim())?))
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        if *first == b'%' {
            let hex = std::str::from_utf8(others.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &others[2..];
        } else {
            bytes.push(*first);
            rest = others;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_have_commas_and_signs_of_percent_if_they_are_encoded() {
        let text = "x-team, x-key = a%2Cb%3D%25 c ,authorization=Bearer%20t==,,";
        let read = names_and_pairs(text).unwrap();
        assert_eq!(read, ["x-team", "x-key=a,b=% c", "authorization=Bearer t=="]);
        for broken in ["x=%", "x=%g0", "x=%ff", "=x"] {
            assert_eq!(names_and_pairs(broken), None, "{broken}");
        }
    }

    #[test]
    fn the_first_known_key_counts_and_a_broken_entry_hides_no_other() {
        let header = "other=1, %=x, broken, session.id=s%20%C3%A9;ttl=3 , gen_ai.conversation.id=c;p";
        assert_eq!(value(header, &["gen_ai.conversation.id", "session.id"]).as_deref(), Some("c"));
        assert_eq!(value(header, &["session.id"]).as_deref(), Some("s é"));
        for header in ["", "session.id", "session.id=", "session.id=%ff", "session.id=%", "SESSION.ID=x"] {
            assert_eq!(value(header, &["session.id"]), None, "{header}");
        }
    }
}
