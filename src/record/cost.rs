//! The estimate of cost: one calculation for the summaries of logs and for live metrics. And the cost of model calls.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Deserialize;

use crate::record::agent::AgentRecord;
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

/// Prices of one model in USD for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelPrice {
    input: TokenPrice,
    output: TokenPrice,
    /// Input that was read from the provider's cache; `input` if it is not set.
    cached: Option<TokenPrice>,
    /// Input that was written to the provider's cache; `input` if it is not set.
    cache_write: Option<TokenPrice>,
}

/// A price that is a number from 0.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
struct TokenPrice(f64);

impl TryFrom<f64> for TokenPrice {
    type Error = &'static str;

    fn try_from(usd: f64) -> Result<TokenPrice, &'static str> {
        let is_price = usd.is_finite() && usd >= 0.0;
        if is_price { Ok(TokenPrice(usd)) } else { Err("not a price") }
    }
}

/// Tokens of one model call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ModelTokens {
    /// All input, with that of the cache.
    pub(crate) input: Option<u64>,
    pub(crate) cached: u64,
    pub(crate) cache_write: u64,
    pub(crate) output: Option<u64>,
}

impl ModelTokens {
    pub(crate) fn of(call: &AgentRecord<'_>) -> ModelTokens {
        ModelTokens {
            input: call.input_tokens,
            cached: call.cached_tokens.unwrap_or(0),
            cache_write: call.cache_write_tokens.unwrap_or(0),
            output: call.output_tokens,
        }
    }
}

/// Prices by a glob of the model. The longest pattern that matches counts.
#[derive(Clone, Debug, Default)]
pub struct ModelPrices(Vec<(Glob, ModelPrice)>);

impl ModelPrices {
    pub fn new(by_model: &BTreeMap<String, ModelPrice>) -> ModelPrices {
        let mut patterns: Vec<(&String, &ModelPrice)> = by_model.iter().collect();
        patterns.sort_by_key(|(pattern, _)| Reverse(pattern.len()));
        let prices = patterns.into_iter().map(|(pattern, price)| (Glob::new(pattern), *price));
        ModelPrices(prices.collect())
    }

    /// Returns the cost of a call in USD; `None` without a price of the model, or if its tokens are not known.
    pub(crate) fn cost(&self, model: &str, tokens: ModelTokens) -> Option<f64> {
        let (_, price) = self.0.iter().find(|(pattern, _)| pattern.matches(model))?;
        let from_cache = tokens.cached.saturating_add(tokens.cache_write);
        let parts = [
            (tokens.input?.saturating_sub(from_cache), price.input),
            (tokens.cached, price.cached.unwrap_or(price.input)),
            (tokens.cache_write, price.cache_write.unwrap_or(price.input)),
            (tokens.output?, price.output),
        ];
        let millionths: f64 = parts.iter().map(|(count, TokenPrice(usd))| *count as f64 * usd).sum();
        // A sum of floating-point numbers has digits that no price has.
        Some((millionths * 1e3).round() / 1e9)
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
    #[test]
    fn a_model_call_costs_what_its_tokens_cost_by_the_longest_pattern() {
        let table = "\"m-*\" = { input = 3, output = 15, cached = 0.3, cache_write = 3.75 }\n\
                     \"m-mini*\" = { input = 1.0, output = 2.0 }";
        let prices = ModelPrices::new(&toml::from_str(table).unwrap());
        let tokens = ModelTokens { input: Some(1_000), cached: 600, cache_write: 100, output: Some(10) };
        // 300 * 3 + 600 * 0.3 + 100 * 3.75 + 10 * 15 millionths.
        assert_eq!(prices.cost("m-1", tokens), Some(0.001_605));
        assert_eq!(prices.cost("m-mini-2", tokens), Some(0.001_02));
        assert_eq!(prices.cost("other", tokens), None);
        for unknown in [ModelTokens { input: None, ..tokens }, ModelTokens { output: None, ..tokens }] {
            assert_eq!(prices.cost("m-1", unknown), None);
        }
        for bad in ["{ input = -1, output = 1 }", "{ input = 1 }", "{ input = 1, output = inf }", "3"] {
            assert!(toml::from_str::<BTreeMap<String, ModelPrice>>(&format!("m = {bad}")).is_err(), "{bad}");
        }
    }
}
