//! Lists that may hold an item for every operation, kept close to the memory that they need.

/// Adds `item`. The capacity grows by a quarter, and the allocator moves big blocks without a copy.
pub(super) fn push_tight<T>(list: &mut Vec<T>, item: T) {
    if list.len() == list.capacity() {
        list.reserve_exact(list.len() / 4 + 16);
    }
    list.push(item);
}

/// Adds one list to another, and frees the memory of the moved part as it goes.
pub(super) fn append_tight<T>(list: &mut Vec<T>, mut other: Vec<T>) {
    const PIECE: usize = 1 << 16;
    while !other.is_empty() {
        let rest = other.len().saturating_sub(PIECE);
        list.reserve_exact(other.len() - rest);
        list.extend(other.drain(rest..));
        other.shrink_to(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_grow_by_a_quarter() {
        let mut list = Vec::new();
        (0..100_000_u64).for_each(|number| push_tight(&mut list, number));
        assert!(list.capacity() <= 125_020, "{}", list.capacity());
        let mut other = vec![7; 200_000];
        append_tight(&mut other, list);
        assert_eq!(other.len(), 300_000);
        assert_eq!(other.iter().sum::<u64>(), 7 * 200_000 + (0..100_000).sum::<u64>());
    }
}
