//! OTLP over gRPC: sends encoded requests, and reads the answer by its status.
//!
//! This is not the client of the OpenTelemetry crate, which does not return the status, the throttling hint
//! and the partial success. Source: OTLP specification, "OTLP/gRPC".

use std::time::Duration;

use anyhow::Context;
use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::export::otlp::limits::{MAX_ANSWER, USER_AGENT, read};
use crate::export::otlp::outcome::{self, Outcome};
use crate::export::otlp::settings::{Signal, SignalTarget};

/// Calls one method of one collector.
pub(super) struct GrpcClient {
    channel: Channel,
    path: PathAndQuery,
    metadata: MetadataMap,
    gzip: bool,
    timeout: Option<Duration>,
    signal: Signal,
}

impl GrpcClient {
    /// Connects when it is first used. Must be called inside a runtime.
    pub(super) fn new(target: &SignalTarget, signal: Signal) -> anyhow::Result<GrpcClient> {
        let endpoint = Endpoint::from_shared(target.endpoint.clone());
        let mut endpoint = endpoint.ok().context("the endpoint is not a URL")?.user_agent(USER_AGENT)?;
        if target.endpoint.starts_with("https:") {
            endpoint = endpoint.tls_config(tls(target)?).ok().context("the certificates cannot be used")?;
        }
        Ok(GrpcClient {
            channel: endpoint.connect_lazy(),
            path: PathAndQuery::from_static(signal.grpc_path()),
            metadata: metadata(target)?,
            gzip: target.gzip,
            timeout: target.timeout,
            signal,
        })
    }

    pub(super) async fn send(&self, body: Bytes) -> Outcome {
        let call = tokio::time::timeout(self.timeout.unwrap_or(Duration::MAX), self.call(body));
        let Ok(answer) = call.await else { return Outcome::not_now("timeout") };
        match answer {
            Ok(body) => Outcome::taken(outcome::partial_success(self.signal, false, &body)),
            Err(status) => judge(&status),
        }
    }

    async fn call(&self, body: Bytes) -> Result<Bytes, Status> {
        let mut client =
            tonic::client::Grpc::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER as usize);
        if self.gzip {
            client = client
                .send_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Gzip);
        }
        client.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
        let mut request = tonic::Request::new(body);
        *request.metadata_mut() = self.metadata.clone();
        Ok(client.unary(request, self.path.clone(), RawCodec).await?.into_inner())
    }
}

/// Source: OTLP specification, the table of retryable codes under "Failures".
fn judge(status: &Status) -> Outcome {
    // A refused or broken connection has no status of its own: tonic invents one.
    let connection = std::error::Error::source(status).is_some();
    let retry_after = status.get_details_retry_info().and_then(|info| info.retry_delay);
    match status.code() {
        Code::Unavailable if connection => Outcome::not_now("refused"),
        Code::Unavailable => Outcome::not_now("grpc_unavailable").after(retry_after),
        Code::Cancelled => Outcome::not_now("grpc_cancelled").after(retry_after),
        Code::DeadlineExceeded => Outcome::not_now("grpc_deadline_exceeded").after(retry_after),
        Code::Aborted => Outcome::not_now("grpc_aborted").after(retry_after),
        Code::OutOfRange => Outcome::not_now("grpc_out_of_range").after(retry_after),
        Code::DataLoss => Outcome::not_now("grpc_data_loss").after(retry_after),
        Code::ResourceExhausted => match retry_after {
            Some(_) => Outcome::not_now("grpc_resource_exhausted").after(retry_after),
            // The words of grpc-go, which most collectors are built on, for a request over their limit.
            None => Outcome {
                too_large: status.message().contains("larger than max"),
                ..Outcome::lost("grpc_resource_exhausted")
            },
        },
        // The peer does not speak gRPC, or the connection broke during the exchange.
        Code::Unknown | Code::Internal if connection => Outcome::not_now("reset"),
        Code::Unauthenticated => Outcome::lost("grpc_unauthenticated"),
        Code::PermissionDenied => Outcome::lost("grpc_permission_denied"),
        Code::Unimplemented => Outcome::lost("grpc_unimplemented"),
        Code::InvalidArgument => Outcome::lost("grpc_invalid_argument"),
        Code::Internal => Outcome::lost("grpc_internal"),
        _ => Outcome::lost("grpc_other"),
    }
}

fn metadata(target: &SignalTarget) -> anyhow::Result<MetadataMap> {
    let mut map = MetadataMap::new();
    for (name, value) in &target.headers {
        let key = MetadataKey::from_bytes(name.to_ascii_lowercase().as_bytes());
        let value = MetadataValue::try_from(value.as_str());
        let (Ok(key), Ok(mut value)) = (key, value) else {
            anyhow::bail!("a header cannot be sent over gRPC");
        };
        value.set_sensitive(true);
        map.insert(key, value);
    }
    Ok(map)
}

fn tls(target: &SignalTarget) -> anyhow::Result<ClientTlsConfig> {
    let mut tls = match &target.certificate {
        Some(path) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path)?)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    if let (Some(certificate), Some(key)) = (&target.client_certificate, &target.client_key) {
        tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    Ok(tls)
}

/// Passes on messages that are encoded already.
pub(crate) struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = RawCodec;
    type Decoder = RawCodec;

    fn encoder(&mut self) -> RawCodec {
        RawCodec
    }

    fn decoder(&mut self) -> RawCodec {
        RawCodec
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_final_or_not_by_the_specification() {
        let judged = |code| judge(&Status::new(code, ""));
        for code in [
            Code::Cancelled,
            Code::DeadlineExceeded,
            Code::Aborted,
            Code::OutOfRange,
            Code::Unavailable,
            Code::DataLoss,
        ] {
            assert!(judged(code).retryable, "{code:?}");
        }
        for code in [Code::InvalidArgument, Code::Unauthenticated, Code::ResourceExhausted, Code::Internal] {
            assert!(!judged(code).retryable && judged(code).failure.is_some(), "{code:?}");
        }
    }

    #[test]
    fn what_is_exhausted_is_tried_again_only_where_the_collector_says_when() {
        use tonic_types::ErrorDetails;
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(7)));
        let status = Status::with_error_details(Code::ResourceExhausted, "", details);
        let outcome = judge(&status);
        assert_eq!((outcome.retryable, outcome.retry_after), (true, Some(Duration::from_secs(7))));
    }
}
