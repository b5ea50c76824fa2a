//! Instructions that compare many bytes at once, where the compiler does not find them by itself.

/// Bytes that are compared at once: one for each bit of a word.
pub(crate) const BLOCK: usize = 64;

/// Returns a bit for each byte that is a quote or a backslash, the first byte's the lowest, and true if a byte is a
/// control character.
#[inline]
pub(crate) fn marks_of(block: &[u8; BLOCK]) -> (u64, bool) {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every processor of this architecture has these instructions.
        unsafe { marks_by_sse2(block) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        marks_on_any_processor(block)
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse2")]
fn marks_by_sse2(block: &[u8; BLOCK]) -> (u64, bool) {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8,
        _mm_setzero_si128,
    };
    let (quote, backslash) = (_mm_set1_epi8(b'"' as i8), _mm_set1_epi8(b'\\' as i8));
    let last_control = _mm_set1_epi8(b' ' as i8 - 1);
    let (mut marks, mut controls) = (0, _mm_setzero_si128());
    for (at, [low, high]) in block.as_chunks::<8>().0.as_chunks::<2>().0.iter().enumerate() {
        let bytes = _mm_set_epi64x(i64::from_le_bytes(*high), i64::from_le_bytes(*low));
        let found = _mm_or_si128(_mm_cmpeq_epi8(bytes, quote), _mm_cmpeq_epi8(bytes, backslash));
        marks |= u64::from(_mm_movemask_epi8(found) as u32) << (16 * at);
        controls = _mm_or_si128(controls, _mm_cmpeq_epi8(_mm_min_epu8(bytes, last_control), bytes));
    }
    (marks, _mm_movemask_epi8(controls) != 0)
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn marks_on_any_processor(block: &[u8; BLOCK]) -> (u64, bool) {
    // Without an exit, the compiler compares many bytes at once.
    let (mut is_mark, mut has_control) = ([0; BLOCK], false);
    for (is_mark, byte) in is_mark.iter_mut().zip(block) {
        *is_mark = u8::from(*byte == b'"') | u8::from(*byte == b'\\');
        has_control |= *byte < b' ';
    }
    let mut marks = 0;
    for (at, eight) in is_mark.as_chunks().0.iter().enumerate() {
        // The highest byte of the product has the lowest bits of the eight bytes, in their order.
        let eight = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        marks |= eight << (8 * at);
    }
    (marks, has_control)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_processor_finds_the_same_marks(
            bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'"'), Just(b'\\'), 30_u8..34], BLOCK)
        ) {
            let block: &[u8; BLOCK] = bytes.as_slice().try_into().unwrap();
            let bit = |(at, byte): (usize, &u8)| u64::from(matches!(byte, b'"' | b'\\')) << at;
            let expected = (block.iter().enumerate().map(bit).sum(), block.iter().any(|byte| *byte < b' '));
            prop_assert_eq!(marks_of(block), expected);
            prop_assert_eq!(marks_on_any_processor(block), expected);
        }
    }
}
