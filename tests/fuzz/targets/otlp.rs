//! The body of a collector's answer, in both encodings.

use spantap::export::otlp::outcome::partial_success;
use spantap::export::otlp::settings::Signal;

pub fn run(input: &[u8]) {
    for signal in Signal::ALL {
        for json in [true, false] {
            let count = partial_success(signal, json, input).rejected;
            assert!(i64::try_from(count).is_ok(), "a count that OTLP cannot encode");
        }
    }
    // The number is in both encodings, because the test put it there.
    let number = input.iter().fold(0_i64, |sum, byte| sum.wrapping_mul(31).wrapping_add(i64::from(*byte)));
    let expected = u64::try_from(number).unwrap_or(0);
    for text in [format!("{number}"), format!("\"{number}\"")] {
        let body = format!("{{\"partialSuccess\":{{\"rejectedSpans\":{text}}}}}");
        assert_eq!(partial_success(Signal::Traces, true, body.as_bytes()).rejected, expected);
    }
}
