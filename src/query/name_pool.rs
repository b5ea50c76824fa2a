//! The pool of names that rows share.

use std::collections::HashSet;
use std::sync::Arc;

use foldhash::fast::RandomState;

/// Shares one copy of each name among the rows that hold it.
#[derive(Clone, Debug, Default)]
pub struct NamePool {
    names: HashSet<Arc<str>, RandomState>,
    /// Number of names at which those that no row holds are freed.
    sweep_at: usize,
    /// Names of the last row, by field. Most rows repeat them, and a comparison is cheaper than a look-up.
    last: [Arc<str>; 8],
}

impl NamePool {
    /// Returns the shared copy of `name`, which is in the field with this number.
    pub(crate) fn share_field(&mut self, field: usize, name: &str) -> Arc<str> {
        if *self.last[field] != *name {
            self.last[field] = self.share(name);
        }
        Arc::clone(&self.last[field])
    }

    pub(crate) fn share(&mut self, name: &str) -> Arc<str> {
        const LEAST: usize = 1 << 10;
        if let Some(known) = self.names.get(name) {
            return Arc::clone(known);
        }
        if self.names.len() >= self.sweep_at.max(LEAST) {
            self.names.retain(|name| Arc::strong_count(name) > 1);
            self.sweep_at = self.names.len() * 2;
        }
        let name: Arc<str> = name.into();
        self.names.insert(Arc::clone(&name));
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_shares_names_and_frees_those_that_no_row_holds() {
        let mut pool = NamePool::default();
        let first = pool.share("git");
        assert!(Arc::ptr_eq(&first, &pool.share("git")));
        (0..100_000).for_each(|turn| drop(pool.share(&turn.to_string())));
        assert!(pool.names.len() <= 2_048, "{}", pool.names.len());
        assert!(Arc::ptr_eq(&first, &pool.share("git")));
    }
}
