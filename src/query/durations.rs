//! Exact percentiles from four bytes a sample.

use crate::query::tight::{append_tight, push_tight};

/// Durations in milliseconds. The log writes three decimals, so 32 bits of microseconds hold a duration of up
/// to 71 minutes exactly. All other durations are kept as they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Durations {
    micros: Vec<u32>,
    others: Vec<f64>,
}

impl Durations {
    pub(crate) fn push(&mut self, ms: f64) {
        let micros = (ms * 1000.0).round();
        if (0.0..=f64::from(u32::MAX)).contains(&micros) && micros / 1000.0 == ms {
            push_tight(&mut self.micros, micros as u32);
        } else if ms.is_finite() {
            self.others.push(ms);
        }
    }

    pub(crate) fn append(&mut self, other: Durations) {
        append_tight(&mut self.micros, other.micros);
        append_tight(&mut self.others, other.others);
    }

    pub(crate) fn len(&self) -> usize {
        self.micros.len() + self.others.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of samples above `ms`.
    pub(crate) fn count_above(&self, ms: f64) -> u64 {
        let short = self.micros.iter().filter(|micros| f64::from(**micros) / 1000.0 > ms).count();
        (short + self.others.iter().filter(|other| **other > ms).count()) as u64
    }

    /// Returns the quantiles at `points` (each between 0 and 1) by linear interpolation between the two nearest
    /// ranks, as `percentile_cont` of DuckDB and PostgreSQL and NumPy's default do. `None` without samples.
    pub(crate) fn quantiles<const N: usize>(&mut self, points: [f64; N]) -> Option<[f64; N]> {
        if self.is_empty() {
            return None;
        }
        self.micros.sort_unstable();
        self.others.sort_unstable_by(f64::total_cmp);
        Some(points.map(|point| {
            let rank = point * (self.len() - 1) as f64;
            let (below, above) = (self.at(rank.floor() as usize), self.at(rank.ceil() as usize));
            below + (above - below) * (rank - rank.floor())
        }))
    }

    /// Returns the sample at `rank` of both sorted lists together.
    fn at(&self, rank: usize) -> f64 {
        let ms = |micros: u32| f64::from(micros) / 1000.0;
        if self.others.is_empty() {
            return ms(self.micros[rank]);
        }
        // The number of `others` among the first `rank` samples. There are few, so each is tried.
        let before = self
            .others
            .iter()
            .enumerate()
            .take_while(|(index, other)| {
                let smaller = self.micros.partition_point(|micros| ms(*micros) <= **other);
                index + smaller < rank
            })
            .count();
        match (self.micros.get(rank - before), self.others.get(before)) {
            (Some(micros), Some(other)) => ms(*micros).min(*other),
            (Some(micros), None) => ms(*micros),
            (None, Some(other)) => *other,
            (None, None) => f64::NAN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn durations(samples: &[f64]) -> Durations {
        let mut durations = Durations::default();
        samples.iter().for_each(|ms| durations.push(*ms));
        durations
    }

    #[test]
    fn quantiles_interpolate_between_ranks() {
        assert_eq!(durations(&[]).quantiles([0.5]), None);
        assert_eq!(durations(&[7.125]).quantiles([0.0, 0.5, 1.0]), Some([7.125; 3]));
        assert_eq!(durations(&[4.0, 1.0, 3.0, 2.0]).quantiles([0.5, 0.25, 1.0]), Some([2.5, 1.75, 4.0]));
    }

    #[test]
    fn samples_that_do_not_fit_the_short_form_are_sorted_among_the_others() {
        let mut samples =
            vec![0.001, 12.345, 5_000_000.0, 0.00015, 9e9, 12.345678, 3.0, 3.0000001, 3.0, -1.0];
        let mut durations = durations(&samples);
        assert_eq!(durations.others.len(), 6);
        samples.sort_by(f64::total_cmp);
        for (rank, sample) in samples.iter().enumerate() {
            let point = rank as f64 / (samples.len() - 1) as f64;
            let [found] = durations.quantiles([point]).unwrap();
            assert!((found - sample).abs() <= sample.abs() * 1e-9, "rank {rank}: {found} for {sample}");
        }
    }
}
