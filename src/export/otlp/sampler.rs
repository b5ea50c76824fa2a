//! Which traces are sent.

/// Spans that are sent although the caller's trace was not sampled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AlwaysKeep {
    pub(crate) errors: bool,
    pub(crate) slow: bool,
}

/// How spans are chosen, and how much of each text is sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sampling {
    pub(crate) keep: AlwaysKeep,
    pub(crate) sampler: Sampler,
    /// Longest text of an attribute, in characters.
    pub(crate) value_length: Option<usize>,
}

/// A sampler of the OpenTelemetry specification.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sampler {
    /// A caller's decision is followed. Without this every span is decided by `share` alone.
    pub(crate) parent_based: bool,
    /// Share of the traces that are sent, of those that begin here.
    pub(crate) share: f64,
}

impl Default for Sampler {
    fn default() -> Sampler {
        Sampler { parent_based: true, share: 1.0 }
    }
}

impl Sampler {
    /// Returns the sampler with this name, if it is known. Only the samplers by ratio use `ratio`.
    pub(super) fn named(name: &str, ratio: Option<f64>) -> Option<Sampler> {
        let name = name.trim().to_ascii_lowercase();
        let root = name.strip_prefix("parentbased_");
        let share = match root.unwrap_or(&name) {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => ratio.unwrap_or(1.0),
            _ => return None,
        };
        Some(Sampler { parent_based: root.is_some(), share })
    }

    /// Decides about a trace that no caller has decided about.
    pub(crate) fn samples(self, trace_id: [u8; 16]) -> bool {
        // The right-most seven bytes are random (W3C Trace Context Level 2).
        let random = trace_id[9..].iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        // A float cannot hold all 56 bits, so a share of 1 is not left to the comparison.
        self.share >= 1.0 || (random as f64) < self.share * (1_u64 << 56) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sampler_decides_by_the_random_part_of_the_trace_id() {
        let samples = |name, ratio, byte| Sampler::named(name, ratio).unwrap().samples([byte; 16]);
        assert!(!samples("always_off", None, 0));
        assert!(samples("parentbased_always_on", None, 0xff));
        assert!(samples("traceidratio", Some(0.1), 0x10));
        assert!(!samples("ParentBased_TraceIdRatio", Some(0.1), 0xf0));
        assert!(samples("traceidratio", None, 0xff), "without an argument: all");
        assert_eq!(Sampler::named("jaeger_remote", None), None);
    }
}
