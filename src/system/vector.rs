//! Instructions that compare many bytes at once, where the compiler does not find them by itself.

/// Returns the text of the JSON string with which `bytes` begin; `None` unless it is printable ASCII without an escape.
// A call keeps the code of a reader of many strings short.
#[inline(never)]
pub(crate) fn plain_string(bytes: &[u8]) -> Option<&str> {
    let string = bytes.strip_prefix(b"\"")?;
    let mut rest = string;
    let end = loop {
        let Some((block, behind)) = rest.split_first_chunk() else { return plain_string_at_end(string) };
        let ends = ends_of(block);
        if ends != 0 {
            break string.len() - rest.len() + place_of_first(ends);
        }
        rest = behind;
    };
    let (text, [b'"', ..]) = string.split_at_checked(end)? else { return None };
    // SAFETY: all bytes before the first end are ASCII.
    Some(unsafe { std::str::from_utf8_unchecked(text) })
}

/// Returns the same for a string that ends where less than a block is left. `string` begins behind its first quote.
#[inline(never)]
fn plain_string_at_end(string: &[u8]) -> Option<&str> {
    let end = string.iter().position(|byte| !is_plain(*byte)).filter(|end| string[*end] == b'"')?;
    std::str::from_utf8(&string[..end]).ok()
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'\x7f') && !matches!(byte, b'"' | b'\\')
}

/// Bytes that are compared at once.
#[cfg(target_arch = "x86_64")]
const BLOCK: usize = 16;

/// Returns a bit for each byte of a block that ends a plain text, the first byte's the lowest: a quote, a backslash, a
/// control character or a byte beyond ASCII.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn ends_of(block: &[u8; BLOCK]) -> u32 {
    // SAFETY: every processor of this architecture has these instructions.
    unsafe { ends_by_sse2(block) }
}

#[cfg(target_arch = "x86_64")]
fn place_of_first(ends: u32) -> usize {
    ends.trailing_zeros() as usize
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse2")]
fn ends_by_sse2(block: &[u8; BLOCK]) -> u32 {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_cmplt_epi8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8,
    };
    let (low, high) = (block.first_chunk().copied(), block.last_chunk().copied());
    let [low, high] = [low, high].map(|half| i64::from_le_bytes(half.unwrap_or_default()));
    let bytes = _mm_set_epi64x(high, low);
    let quotes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
    let backslashes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
    // As numbers with a sign, bytes beyond ASCII are negative.
    let others = _mm_cmplt_epi8(bytes, _mm_set1_epi8(b' ' as i8));
    _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quotes, backslashes), others)) as u32
}

#[cfg(not(target_arch = "x86_64"))]
use {ends_of_word as ends_of, place_in_word as place_of_first};

/// Compares eight bytes as one number, as any processor can. Returns the highest bit of the first byte that ends a
/// plain text, of none before it, and of any others behind it.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn ends_of_word(block: &[u8; 8]) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let bytes = u64::from_le_bytes(*block);
    let below = |bytes: u64, least: u8| bytes.wrapping_sub(ONES * u64::from(least)) & !bytes;
    let is_byte = |byte: u8| below(bytes ^ (ONES * u64::from(byte)), 1);
    (is_byte(b'"') | is_byte(b'\\') | below(bytes, b' ') | bytes) & (ONES * 0x80)
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn place_in_word(ends: u64) -> usize {
    (ends.trailing_zeros() / 8) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_processor_finds_the_same_end_of_a_text(
            bytes in proptest::collection::vec(prop_oneof![6 => 30_u8..128, 1 => any::<u8>(), 1 => Just(b'"')], 0..70)
        ) {
            let plain = |bytes: &[u8]| bytes.iter().take_while(|byte| is_plain(**byte)).count();
            let end = plain(&bytes);
            let expected = (bytes.get(end) == Some(&b'"')).then(|| &bytes[..end]);
            let line = [b"\"", &*bytes].concat();
            prop_assert_eq!(plain_string(&line).map(str::as_bytes), expected);
            prop_assert!(plain_string(&[b"x", &*line].concat()).is_none());
            for block in bytes.as_chunks().0 {
                prop_assert_eq!(place_in_word(ends_of_word(block)), plain(block));
            }
        }
    }
}
