//! How a text looks: random, or made of words, numbers and short pieces.

/// Returns true if a text is made of words, numbers and short pieces: `node-modules-v2`, `PROJ-1234`, `users:42`,
/// `/etc/ssl/server1.key`, `12ms`, `2024-05-01`.
pub(crate) fn is_wordy(value: &str) -> bool {
    value.split(|c: char| !c.is_ascii_alphanumeric()).all(|part| {
        let letters = part.trim_end_matches(|c: char| c.is_ascii_digit());
        let number = part.trim_start_matches(|c: char| c.is_ascii_digit());
        part.len() <= 2 && value.len() > 2
            || letters.bytes().all(|byte| byte.is_ascii_alphabetic())
                && part.len() - letters.len() <= 4
                && !changes_case(letters)
            || number.len() <= 3 && number.bytes().all(|byte| byte.is_ascii_alphabetic())
    })
}

/// Returns true if the letters of a word change their case more often than in a name in code.
fn changes_case(word: &str) -> bool {
    let bytes = word.as_bytes();
    let humps = bytes
        .windows(2)
        .filter(|pair| matches!(pair, [a, b] if a.is_ascii_uppercase() && b.is_ascii_lowercase()));
    let falls = bytes
        .windows(2)
        .filter(|pair| matches!(pair, [a, b] if a.is_ascii_lowercase() && b.is_ascii_uppercase()));
    word.len() >= 16 && humps.count() + falls.count() > word.len() / 3
}

/// Returns true if a value of at least eight bytes has letters and digits, has no blank, and is not made of words.
pub(crate) fn is_random_short(value: &str) -> bool {
    is_mixed(value) && !value.contains(' ') && !is_wordy(value)
}

/// Returns true for a path of Windows with a drive, and for a path of fewer than 200 bytes from the root, the home or
/// the current folder.
pub(crate) fn is_path(value: &str) -> bool {
    let is_drive = value.as_bytes().get(1) == Some(&b':') && value.contains('\\');
    is_drive || ["/", "./", "../", "~/"].iter().any(|start| value.starts_with(start)) && value.len() < 200
}

/// Returns true for a password as people make it: letters and digits, of both cases or with a sign: `Fjord_3391`,
/// `hunter!22`. Versions, dates, algorithms and addresses are not.
pub(crate) fn is_password_like(value: &str) -> bool {
    if !(6..=64).contains(&value.len()) || value.starts_with("20") {
        return false;
    }
    let (mut digits, mut upper, mut lower, mut signs) = (0, 0, 0, 0);
    for byte in value.bytes() {
        match byte {
            b'0'..=b'9' => digits += 1,
            b'A'..=b'Z' => upper += 1,
            b'a'..=b'z' => lower += 1,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'*' | b'+' | b'=' | b'?' | b'@' | b'^' | b'~' => signs += 1,
            b'(' | b')' | b'<' | b'>' | b'{' | b'}' | b'[' | b']' | b'"' | b'`' | b'\\' | b'/' => {
                return false;
            }
            _ if !byte.is_ascii_graphic() => return false,
            _ => {}
        }
    }
    let has_cases = upper > 0 && lower > 0;
    digits > 0
        && upper + lower >= 2
        && (digits >= 2 && has_cases || signs > 0 && (has_cases || digits >= 2) || is_random_short(value))
        // `kid=2026-01`
        && !value.trim_end_matches('=').contains('=')
        && !value.split_once('@').is_some_and(|(_, host)| host.contains('.'))
        && !is_digest(value)
}

/// Returns true for letters and at most two digits after them: `GPIO17`.
pub(crate) fn is_mixed_short(value: &str) -> bool {
    let letters = value.trim_end_matches(|c: char| c.is_ascii_digit());
    letters.len() >= 2 && (1..=2).contains(&(value.len() - letters.len()))
}

/// Returns true if a value has letters and digits, as keys and tokens do.
pub(crate) fn is_mixed(value: &str) -> bool {
    value.len() >= 8
        && value.bytes().any(|byte| byte.is_ascii_digit())
        && value.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// Returns true if the value of a weak name (`key`, `code`, `auth`) looks random, by the limits of gitleaks'
/// generic rule. Identifiers and digests do not count, because logs are full of them.
pub(crate) fn looks_random(value: &str) -> bool {
    value.len() >= 16
        && is_mixed(value)
        && !value.contains([' ', ':'])
        && !is_digest(value)
        && !is_wordy(value)
        && entropy(value) >= 3.5
}

/// Returns true for a UUID.
pub(crate) fn is_uuid(value: &str) -> bool {
    value.len() == 36 && is_digest(value) && value.matches('-').count() == 4
}

/// Returns true for the name of a stored thing: at least two words, and a digest: `linux-node-22-8f52…`,
/// `uploads/2026/04/8238ea57-….png`.
pub(crate) fn is_words_and_digests(value: &str) -> bool {
    let parts = || value.split(['/', '-', '_', '.', ':']);
    let is_word = |part: &&str| {
        part.len() >= 3 && part.bytes().all(|byte| byte.is_ascii_alphabetic()) && !is_digest(part)
    };
    parts().all(|part| is_digest(part) || is_wordy(part)) && parts().filter(is_word).count() >= 2
}

/// Returns true for UUIDs and hexadecimal digests.
pub(crate) fn is_digest(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// Returns the Shannon entropy in bits per byte.
pub(crate) fn entropy(value: &str) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in value.bytes() {
        if let Some(count) = counts.get_mut(usize::from(byte)) {
            *count += 1;
        }
    }
    let length = value.len() as f64;
    counts
        .iter()
        .filter(|&&count| count > 0)
        .map(|&count| {
            let share = f64::from(count) / length;
            -share * share.log2()
        })
        .sum()
}
