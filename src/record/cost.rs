//! The estimate of cost: one calculation for the summaries of logs and for live metrics.

use std::collections::BTreeMap;

use crate::text::glob::Glob;

/// Prices in USD. Without prices no cost is shown.
#[derive(Clone, Debug, Default)]
pub struct Prices {
    per_million_tokens: Option<f64>,
    /// Price of one call by `server/tool`; the first pattern that matches counts.
    per_call: Vec<(Glob, Charge)>,
}

impl Prices {
    pub fn new(per_million_tokens: Option<f64>, per_call: &BTreeMap<String, f64>) -> Prices {
        let per_call =
            per_call.iter().map(|(pattern, usd)| (Glob::new(pattern), Charge((usd * 1e9).round() as u64)));
        Prices { per_million_tokens, per_call: per_call.collect() }
    }

    pub(crate) fn any(&self) -> bool {
        self.per_million_tokens.is_some() || self.has_calls()
    }

    pub(crate) fn has_calls(&self) -> bool {
        !self.per_call.is_empty()
    }

    pub(crate) fn call(&self, server: &str, tool: &str) -> Charge {
        if self.per_call.is_empty() {
            return Charge::default();
        }
        let name = format!("{server}/{tool}");
        let price = self.per_call.iter().find(|(pattern, _)| pattern.matches(&name));
        price.map_or_else(Charge::default, |(_, charge)| *charge)
    }

    /// Returns the price of `tokens` in USD; `None` without a price for tokens.
    pub(crate) fn tokens(&self, tokens: u64) -> Option<f64> {
        self.per_million_tokens.map(|usd| tokens as f64 * usd / 1e6)
    }
}

/// The price of calls in billionths of a dollar: a sum of whole numbers is the same in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Charge(u64);

impl Charge {
    pub(crate) fn add(&mut self, other: Charge) {
        self.0 = self.0.saturating_add(other.0);
    }

    pub(crate) fn usd(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prices(pattern: &str, usd: f64) -> Prices {
        Prices::new(None, &BTreeMap::from([(pattern.to_owned(), usd)]))
    }

    #[test]
    fn a_call_has_the_price_of_the_first_pattern_that_matches() {
        for (pattern, usd) in [("search/*", 0.005), ("search/w?b", 0.005), ("search/w?", 0.0)] {
            assert_eq!(prices(pattern, 0.005).call("search", "web").usd(), usd, "{pattern}");
        }
        let two = BTreeMap::from([("search/*".to_owned(), 0.5), ("search/web".to_owned(), 0.25)]);
        assert_eq!(Prices::new(None, &two).call("search", "web").usd(), 0.5);
    }

    #[test]
    fn many_small_prices_add_up_exactly() {
        let prices = prices("*", 0.1);
        let mut sum = Charge::default();
        (0..10).for_each(|_| sum.add(prices.call("search", "web")));
        assert_eq!(sum.usd(), 1.0);
    }

    #[test]
    fn tokens_have_a_price_of_their_own() {
        assert_eq!(Prices::new(Some(3.0), &BTreeMap::new()).tokens(10_000), Some(0.03));
        assert_eq!(prices("*", 0.1).tokens(10_000), None);
    }
}
