//! Which addresses are on this machine, and why an exchange over the network failed.

use std::io::ErrorKind;
use std::net::IpAddr;

use ureq::{Error, Timeout};

/// Why an exchange over HTTP failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkFailure {
    /// The name of the host was not resolved in time.
    LateName,
    /// No connection was accepted in time.
    LateConnection,
    /// There was no answer in time.
    LateAnswer,
    UnknownName,
    /// TLS failed, or the certificate is not valid.
    Tls,
    /// The answer is longer than the limit.
    TooLong,
    /// The answer is not HTTP.
    NotHttp,
    Refused,
    /// The connection ended before the answer.
    Ended,
    /// Any other failure.
    Unreachable,
}

impl NetworkFailure {
    /// Returns why the exchange failed that ended with this error.
    pub fn of(error: &Error) -> NetworkFailure {
        match error {
            Error::Timeout(Timeout::Resolve) => NetworkFailure::LateName,
            Error::Timeout(Timeout::Connect) => NetworkFailure::LateConnection,
            Error::Timeout(_) => NetworkFailure::LateAnswer,
            Error::HostNotFound => NetworkFailure::UnknownName,
            Error::Tls(_) | Error::Rustls(_) => NetworkFailure::Tls,
            Error::BodyExceedsLimit(_) => NetworkFailure::TooLong,
            Error::Protocol(_) | Error::Http(_) | Error::LargeResponseHeader(..) => NetworkFailure::NotHttp,
            Error::Io(error) => match error.kind() {
                ErrorKind::TimedOut => NetworkFailure::LateAnswer,
                // rustls reports a bad certificate as bad data.
                ErrorKind::InvalidData => NetworkFailure::Tls,
                ErrorKind::ConnectionRefused => NetworkFailure::Refused,
                ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::UnexpectedEof
                | ErrorKind::BrokenPipe => NetworkFailure::Ended,
                _ => NetworkFailure::Unreachable,
            },
            _ => NetworkFailure::Unreachable,
        }
    }
}

/// Returns true if the address is on this machine. It is never reached through a proxy.
pub fn is_local(address: &http::Uri) -> bool {
    let host = address.host().unwrap_or_default().trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_local() {
        let is = |address: &str| is_local(&address.parse().unwrap());
        for here in
            ["http://localhost:4318/v1/traces", "http://127.0.0.1:1", "http://[::1]:4318", "http://127.9.9.9"]
        {
            assert!(is(here), "{here}");
        }
        for elsewhere in
            ["https://collector.example:4318", "http://localhost.example", "http://127.example.com"]
        {
            assert!(!is(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn a_failure_of_the_connection_is_told_from_one_of_the_other_side() {
        let of = |kind: ErrorKind| NetworkFailure::of(&Error::Io(kind.into()));
        assert_eq!(of(ErrorKind::ConnectionRefused), NetworkFailure::Refused);
        assert_eq!(of(ErrorKind::UnexpectedEof), NetworkFailure::Ended);
        assert_eq!(of(ErrorKind::InvalidData), NetworkFailure::Tls);
        assert_eq!(of(ErrorKind::NetworkUnreachable), NetworkFailure::Unreachable);
        assert_eq!(NetworkFailure::of(&Error::Timeout(Timeout::Connect)), NetworkFailure::LateConnection);
    }
}
