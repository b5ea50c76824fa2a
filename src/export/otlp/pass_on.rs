//! Passes bodies on that another program encoded.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

use crate::export::otlp::outcome::{Outcome, PartialSuccess};
use crate::export::otlp::settings::source::joined_path;
use crate::export::otlp::settings::{Protocol, Signal, SignalTarget};
use crate::export::otlp::transport::HttpClient;

/// Limit of one exchange.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Posts bodies of all signals to one collector, over HTTP.
pub(crate) struct PassOnClient {
    /// In the order of [`Signal::ALL`].
    clients: Vec<HttpClient>,
}

/// Reason why a collector did not take a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PassOnError {
    pub(crate) reason: &'static str,
    /// The same body may be sent again, after this time if the collector names one.
    pub(crate) may_pass: bool,
    pub(crate) retry_after: Option<Duration>,
}

impl PassOnClient {
    /// Returns a client for the collector at `base`, a URL without the path of a signal. Each request has `headers`.
    /// No proxy of the environment is used if `is_direct`.
    ///
    /// # Errors
    /// If the URL or a header cannot be used.
    pub(crate) fn new(
        base: &str,
        headers: &[(String, String)],
        is_direct: bool,
    ) -> anyhow::Result<PassOnClient> {
        let target = |signal| SignalTarget {
            endpoint: joined_path(base, signal),
            protocol: Protocol::HttpProtobuf,
            headers: headers.to_vec(),
            gzip: false,
            timeout: Some(TIMEOUT),
            certificate: None,
            client_certificate: None,
            client_key: None,
            is_direct,
            left_out: Vec::new(),
        };
        let client = |signal| HttpClient::new(&target(signal), signal);
        Ok(PassOnClient { clients: Signal::ALL.into_iter().map(client).collect::<anyhow::Result<_>>()? })
    }

    /// Posts a body with these headers. Returns what the collector left out of it.
    pub(crate) async fn post(
        &self,
        signal: Signal,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<PartialSuccess, PassOnError> {
        let at = Signal::ALL.iter().position(|known| *known == signal).unwrap_or(0);
        let Outcome { failure, retryable, retry_after, rejected, message, .. } =
            self.clients[at].post(headers, body).await;
        match failure {
            None => Ok(PartialSuccess { rejected, message }),
            Some(reason) => Err(PassOnError { reason, may_pass: retryable, retry_after }),
        }
    }
}
