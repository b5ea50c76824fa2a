//! W3C trace context: ids, flags, a strict parser and a writer.
//!
//! Source: W3C Trace Context Level 2, §3.2 (`traceparent`) and §3.3 (`tracestate`). The parser is our
//! own because the OpenTelemetry SDK's accepts short ids and foreign versions, and drops the
//! random-trace-id flag.

use std::fmt;

use crate::text::hex;

/// Declares an id of some bytes, never all zero, written as lower-case hex digits.
macro_rules! id {
    ($name:ident, $size:literal) => {
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name([u8; $size]);

        impl $name {
            /// Returns `None` for the invalid all-zero id.
            pub fn new(bytes: [u8; $size]) -> Option<$name> {
                (bytes != [0; $size]).then_some($name(bytes))
            }

            pub(crate) fn bytes(self) -> [u8; $size] {
                self.0
            }

            /// Returns the text of `Display` without the cost of formatting.
            pub(crate) fn text(self) -> String {
                hex::text(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.text())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.text())
            }
        }
    };
}

id!(TraceId, 16);
id!(SpanId, 8);

/// The two flag bits that Level 2 defines.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct TraceFlags(u8);

impl TraceFlags {
    const SAMPLED: u8 = 0b01;
    const RANDOM: u8 = 0b10;

    /// Returns the flags of a new trace: its id is random, and `sampled` is the sampler's decision.
    pub fn new_trace(sampled: bool) -> TraceFlags {
        TraceFlags(Self::RANDOM | u8::from(sampled))
    }

    /// Returns the flags without unknown bits, which must be sent as zero (§3.2.2.5.3).
    pub(crate) fn from_bits(bits: u8) -> TraceFlags {
        TraceFlags(bits & (Self::SAMPLED | Self::RANDOM))
    }

    /// Returns the flags with another decision.
    pub(crate) fn with_sampled(self, sampled: bool) -> TraceFlags {
        TraceFlags(self.0 & Self::RANDOM | u8::from(sampled))
    }

    pub fn bits(self) -> u8 {
        self.0
    }

    /// Returns two lower-case hex digits.
    pub(crate) fn text(self) -> String {
        hex::text(&[self.0])
    }
}

impl fmt::Display for TraceFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// A valid `traceparent`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceParent {
    pub trace_id: TraceId,
    pub parent_id: SpanId,
    pub flags: TraceFlags,
}

impl TraceParent {
    /// Parses a header value strictly: lower-case hex, no all-zero id, no version `ff`, version `00`
    /// of exactly 55 bytes, later versions of at least 55 bytes and then a `-`. Returns `None` for any
    /// other text; the caller then starts a new trace and discards `tracestate`.
    pub fn parse(text: &str) -> Option<TraceParent> {
        let text = text.as_bytes();
        if text.len() < 55 || text[2] != b'-' || text[35] != b'-' || text[52] != b'-' {
            return None;
        }
        let [version] = lower_hex::<1>(&text[..2])?;
        match version {
            0xff => return None,
            0x00 if text.len() != 55 => return None,
            _ if text.len() > 55 && text[55] != b'-' => return None,
            _ => {}
        }
        let [flags] = lower_hex::<1>(&text[53..55])?;
        Some(TraceParent {
            trace_id: TraceId::new(lower_hex(&text[3..35])?)?,
            parent_id: SpanId::new(lower_hex(&text[36..52])?)?,
            flags: TraceFlags::from_bits(flags),
        })
    }
}

impl fmt::Display for TraceParent {
    /// Writes the header value, always as version `00`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{}", self.trace_id, self.parent_id, self.flags)
    }
}

/// Decodes exactly `N` bytes of lower-case hex.
fn lower_hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03";

    #[test]
    fn a_valid_header_is_read_and_written_back() {
        assert_eq!(TraceParent::parse(VALID).unwrap().to_string(), VALID);
    }

    #[test]
    fn a_later_version_is_read_as_far_as_version_00_goes() {
        let later = format!("cc{}-what-the-future-holds", &VALID[2..]);
        assert_eq!(TraceParent::parse(&later).unwrap().to_string(), VALID);
        assert!(TraceParent::parse(&format!("cc{}", &VALID[2..])).is_some());
    }

    #[test]
    fn unknown_flag_bits_are_not_passed_on() {
        let header = format!("{}ff", &VALID[..53]);
        assert_eq!(TraceParent::parse(&header).unwrap().flags.to_string(), "03");
    }

    #[test]
    fn headers_that_the_standard_forbids_are_refused() {
        for wrong in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-3",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03 ",
            " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03.x",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-03",
            "0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03",
            "FE-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03",
            "00-00000000000000000000000000000000-b7ad6b7169203331-03",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-03",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-+3",
            "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_03",
        ] {
            assert_eq!(TraceParent::parse(wrong), None, "{wrong}");
        }
    }
}
