//! Tests that tell a difference from chance: Fisher's exact test, and Holm's correction for many comparisons.

/// Probability with which any difference at all is reported although nothing differs.
const LEVEL: f64 = 0.05;

/// The result of Fisher's exact test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ExactTest {
    /// Probability of a division that is as uneven as this or more, if chance alone divides.
    pub(crate) p: f64,
    /// The same for the most uneven division of these counts. Above [`LEVEL`] they are too few to show anything.
    least_p: f64,
}

impl ExactTest {
    /// Tests how `marked` items of two samples with `sizes` items divide between them: two-sided, by the probabilities
    /// of all divisions with the same sums.
    pub(crate) fn new(marked: [u64; 2], sizes: [u64; 2]) -> ExactTest {
        let sum = marked[0] + marked[1];
        let lowest = sum.saturating_sub(sizes[1]);
        let highest = sum.min(sizes[0]);
        // The share of the probability of `x + 1` in that of `x`.
        let step = |x: u64| {
            let more = (sum - x) as f64 * (sizes[0] - x) as f64;
            more / ((x + 1) as f64 * (sizes[1] + x + 1 - sum) as f64)
        };
        let mode = (sizes[0] + 1) as f64 * (sum + 1) as f64 / ((sizes[0] + sizes[1] + 2) as f64);
        let mode = (mode as u64).clamp(lowest, highest);
        // Relative to the most probable division.
        let mut weights = vec![1.0; (highest - lowest + 1) as usize];
        let at = |x: u64| (x - lowest) as usize;
        for x in mode..highest {
            weights[at(x + 1)] = weights[at(x)] * step(x);
        }
        for x in (lowest..mode).rev() {
            weights[at(x)] = weights[at(x + 1)] / step(x);
        }
        let all: f64 = weights.iter().sum();
        let p = |weight: f64| {
            let as_uneven = weights.iter().filter(|other| **other <= weight * (1.0 + 1e-7));
            as_uneven.sum::<f64>() / all
        };
        let least = weights[0].min(weights[weights.len() - 1]);
        ExactTest { p: p(weights[at(marked[0])]), least_p: p(least) }
    }

    /// Returns true if these counts can show a difference.
    pub(crate) fn can_show(&self) -> bool {
        self.least_p <= LEVEL
    }
}

/// Returns the greatest probability that counts as a difference among `tests`, and how many of them can show one.
/// `None` if none of them shows a difference.
pub(crate) fn threshold(tests: impl Iterator<Item = ExactTest>) -> (Option<f64>, usize) {
    // A comparison that can show nothing cannot be wrong either, so it does not count.
    let mut found: Vec<f64> = tests.filter(ExactTest::can_show).map(|test| test.p).collect();
    found.sort_unstable_by(f64::total_cmp);
    let count = found.len();
    let shown = found.iter().enumerate().take_while(|(number, p)| **p <= LEVEL / (count - number) as f64);
    (shown.last().map(|(_, p)| *p), count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_gives_the_published_probabilities() {
        for (marked, sizes, expected) in [
            // Fisher's lady who tastes tea.
            ([3, 1], [4, 4], 0.485_714_285_714_285_7),
            ([8, 1], [10, 6], 0.034_965_034_965_034_96),
            ([1, 11], [10, 14], 0.002_759_456_185_220_083),
            ([0, 5], [5, 5], 2.0 / 252.0),
            ([0, 0], [7, 3], 1.0),
            ([0, 0], [0, 0], 1.0),
        ] {
            let found = ExactTest::new(marked, sizes).p;
            assert!((found - expected).abs() < 1e-12, "{marked:?} of {sizes:?}: {found}");
        }
    }

    #[test]
    fn a_million_calls_are_tested_too() {
        let same = ExactTest::new([50_000, 50_010], [1_000_000, 1_000_000]);
        let other = ExactTest::new([50_000, 60_000], [1_000_000, 1_000_000]);
        assert!((0.9..=1.0).contains(&same.p) && other.p < 1e-100, "{same:?} {other:?}");
    }

    #[test]
    fn only_what_chance_does_not_explain_is_a_difference() {
        let test = |marked| ExactTest::new(marked, [10, 10]);
        let (clear, weak, nothing) = (test([0, 10]), test([1, 6]), test([0, 0]));
        assert!(weak.p < 0.06 && clear.p < 1e-4 && !nothing.can_show());
        assert_eq!(threshold([clear, weak].into_iter()), (Some(clear.p), 2));
        assert_eq!(threshold([weak, weak].into_iter()), (None, 2));
        assert_eq!(threshold(std::iter::repeat_n(nothing, 100).chain([clear])), (Some(clear.p), 1));
        // A thousand comparisons of the same kind report a difference at most once in twenty.
        assert_eq!(threshold(std::iter::repeat_n(test([1, 8]), 1_000)).0, None);
    }
}
