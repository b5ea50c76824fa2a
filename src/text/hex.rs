//! Writes bytes as hex digits and reads them; writes without `format!`: a record contains some three hundred digits.

pub(crate) fn push(text: &mut String, bytes: &[u8]) {
    // Without a table, the compiler makes many digits at once.
    let digit = |number: u8| number + if number > 9 { b'a' - 10 } else { b'0' };
    for chunk in bytes.chunks(32) {
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(chunk) {
            pair[0] = digit(byte >> 4);
            pair[1] = digit(byte & 15);
        }
        text.push_str(std::str::from_utf8(&digits[..chunk.len() * 2]).unwrap_or_default());
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    push(&mut text, bytes);
    text
}

/// Returns the bytes that the hex digits of `text` write.
pub(crate) fn bytes(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: &u8| char::from(*digit).to_digit(16).map(|digit| digit as u8);
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair.first()?)? << 4 | digit(pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_two_digits() {
        let bytes: Vec<u8> = (0..=255).collect();
        let expected: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text(&bytes), expected);
        assert_eq!(text(&[]), "");
        assert_eq!(super::bytes(&expected), Some(bytes));
        for other in ["0", "0g", "é", "+1"] {
            assert_eq!(super::bytes(other), None, "{other}");
        }
    }
}
