//! The requests: who may send, how much, and what becomes of a body.
//!
//! Each request goes the same way: it is admitted by its head, its body is read within limits of size and time, it waits
//! for its turn, and one thread at a time decodes and records it. So memory is bounded by the bodies that wait and by
//! one body that is decoded.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use bytes::{Bytes, BytesMut};
use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, ORIGIN,
};
use http::request::Parts;
use http::uri::Authority;
use http::{Method, Response, Uri};
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tonic::codec::CompressionEncoding;

use crate::collect::answer::{BodyForm, Refusal, taken, taken_message};
use crate::collect::connection_use::ConnectionUse;
use crate::collect::decode::{BodyEncoding, MAX_BODY, Undecodable};
use crate::collect::forward::{ForwardedBody, Forwarder, VIA};
use crate::collect::recording::{Recording, SharedCounts};
use crate::export::otlp::RawCodec;
use crate::export::otlp::settings::Signal;

/// Bytes of all bodies that wait, as they came.
const MOST_WAITING: usize = 24 << 20;
/// Bytes for each permit of the semaphore that bounds them.
const PERMIT: usize = 4 << 10;
/// How long a client may take to send a body.
const BODY_TIME: Duration = Duration::from_secs(10);
/// How long a request waits for its turn.
const TURN_TIME: Duration = Duration::from_secs(5);
/// Bytes in front of a message over gRPC: whether it is compressed, and its length.
const GRPC_HEAD: usize = 5;

/// SHA-256 of the token that clients must send.
pub(crate) type TokenHash = [u8; 32];

/// Everything that the requests share.
pub(super) struct Receiver {
    waiting: Arc<Semaphore>,
    recording: Arc<Mutex<Recording>>,
    counts: SharedCounts,
    token: Option<TokenHash>,
    forwarder: Option<Forwarder>,
    connection_id: String,
}

impl Receiver {
    pub(super) fn new(
        recording: Arc<Mutex<Recording>>,
        counts: SharedCounts,
        token: Option<TokenHash>,
        forwarder: Option<Forwarder>,
        connection_id: &str,
    ) -> Receiver {
        let waiting = Arc::new(Semaphore::new(MOST_WAITING / PERMIT));
        Receiver { waiting, recording, counts, token, forwarder, connection_id: connection_id.to_owned() }
    }

    /// Returns the service of all listeners.
    pub(super) fn router(self) -> Router {
        Router::new().fallback(answer).with_state(Arc::new(self))
    }

    async fn answer(self: Arc<Self>, request: Request) -> Response<Body> {
        let _under_way = request.extensions().get().map(ConnectionUse::begin);
        let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let is_grpc = kind.is_some_and(|kind| kind.starts_with("application/grpc"));
        let path = request.uri().path();
        let is_path = |signal: &Signal| match is_grpc {
            true => path == signal.grpc_path(),
            false => path.strip_prefix('/').is_some_and(|path| path == signal.path()),
        };
        match Signal::ALL.into_iter().find(is_path) {
            Some(signal) if is_grpc => self.grpc(signal, request).await,
            Some(signal) => self.http(signal, request).await,
            None => {
                self.counts.refuse(Refusal::NotFound.word());
                match is_grpc {
                    true => Refusal::NotFound.grpc().into_http(),
                    false => Refusal::NotFound.http(form_of(request.headers()).unwrap_or(BodyForm::Json)),
                }
            }
        }
    }

    async fn http(&self, signal: Signal, request: Request) -> Response<Body> {
        let form = form_of(request.headers());
        let outcome = match self.admit_http(form, request).await {
            Ok(body) => self.take_http(signal, body).await,
            Err(refusal) => {
                self.counts.refuse(refusal.word());
                Err(refusal)
            }
        };
        let form = form.unwrap_or(BodyForm::Protobuf);
        match outcome {
            Ok(rejected) => taken(signal, form, rejected),
            Err(refusal) => refusal.http(form),
        }
    }

    /// Judges a request by its head, and reads its body.
    async fn admit_http(&self, form: Option<BodyForm>, request: Request) -> Result<AdmittedBody, Refusal> {
        let (head, body) = request.into_parts();
        self.admit(&head)?;
        if head.method != Method::POST {
            return Err(Refusal::Method);
        }
        let form = form.ok_or(Refusal::ContentType)?;
        let named = head.headers.get(CONTENT_ENCODING).map_or(Ok(""), HeaderValue::to_str);
        let encoding = named.ok().and_then(BodyEncoding::parse).ok_or(Refusal::Encoding)?;
        let length = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if length.is_some_and(|length: usize| length > MAX_BODY) {
            return Err(Refusal::TooLarge);
        }
        let (body, permit) = self.read(body, MAX_BODY).await?;
        Ok(AdmittedBody { form, encoding, headers: head.headers, body, _permit: permit })
    }

    /// Records a body and passes it on. A refusal is counted.
    async fn take_http(&self, signal: Signal, request: AdmittedBody) -> Result<u64, Refusal> {
        let AdmittedBody { form, encoding, headers, body, _permit } = request;
        let forwarded = self.forwarder.as_ref().map(|forwarder| ForwardedBody {
            signal,
            body: body.clone(),
            content_type: headers.get(CONTENT_TYPE).cloned(),
            encoding: headers.get(CONTENT_ENCODING).cloned(),
            headers: forwarder.named(&headers),
        });
        let length = body.len();
        let decode = move || {
            encoding.decode(&body).map_err(|failure| match failure {
                Undecodable::TooLarge => Refusal::TooLarge,
                Undecodable::Broken => Refusal::Broken,
            })
        };
        let recorded = match self.turn().await {
            Ok(recording) => record(recording, signal, form, length, decode).await,
            Err(busy) => Err(busy),
        };
        match &recorded {
            Ok(_) => self.forward(forwarded),
            Err(refusal) => self.counts.refuse(refusal.word()),
        }
        recorded
    }

    async fn grpc(&self, signal: Signal, request: Request) -> Response<Body> {
        let (head, body) = request.into_parts();
        let admitted = async {
            self.admit(&head)?;
            self.read(body, MAX_BODY + GRPC_HEAD).await
        };
        let (body, _permit) = match admitted.await {
            Ok(admitted) => admitted,
            Err(refusal) => {
                self.counts.refuse(refusal.word());
                return refusal.grpc().into_http();
            }
        };
        self.take_grpc(signal, head, body).await
    }

    /// Records a body and passes it on. A refusal is counted.
    async fn take_grpc(&self, signal: Signal, head: Parts, body: Bytes) -> Response<Body> {
        let recording = match self.turn().await {
            Ok(recording) => recording,
            Err(busy) => {
                self.counts.refuse(busy.word());
                return busy.grpc().into_http();
            }
        };
        let is_answered = Arc::new(AtomicBool::new(false));
        let call = GrpcExport {
            signal,
            length: body.len(),
            recording: Some(recording),
            counts: self.counts.clone(),
            is_answered: Arc::clone(&is_answered),
        };
        let forwarded = self.forwarder.as_ref().and_then(|forwarder| {
            let (begin, rest) = body.split_at_checked(GRPC_HEAD)?;
            let length = usize::try_from(u32::from_be_bytes(begin[1..].try_into().ok()?)).ok()?;
            let headers = forwarder.named(&head.headers);
            Some(ForwardedBody {
                signal,
                body: body.slice(GRPC_HEAD..GRPC_HEAD + length.min(rest.len())),
                content_type: Some(HeaderValue::from_static("application/x-protobuf")),
                encoding: (begin[0] != 0).then(|| HeaderValue::from_static("gzip")),
                headers,
            })
        });
        let mut codec = tonic::server::Grpc::new(RawCodec)
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(MAX_BODY);
        let answer = codec.unary(call, Request::from_parts(head, Body::from(body))).await;
        // An answer without a message has its status among the headers.
        match answer.headers().get("grpc-status") {
            None => self.forward(forwarded),
            Some(_) if is_answered.load(Ordering::Relaxed) => {}
            Some(_) => self.counts.refuse(Refusal::Garbage.word()),
        }
        answer.map(Body::new)
    }

    /// Judges a request by its head.
    fn admit(&self, head: &Parts) -> Result<(), Refusal> {
        let Parts { uri, headers, extensions, .. } = head;
        if headers.contains_key(ORIGIN) {
            return Err(Refusal::Browser);
        }
        match &self.token {
            Some(token) if !has_token(headers, token) => return Err(Refusal::Token),
            // A web page cannot know the token, so the name of the host does not matter.
            Some(_) => {}
            None if !is_own_host(uri, headers) => return Err(Refusal::Host),
            None => {}
        }
        let came_from_here =
            |via: &HeaderValue| via.to_str().is_ok_and(|via| via.contains(&self.connection_id));
        if headers.get_all(VIA).iter().any(came_from_here) {
            return Err(Refusal::Loop);
        }
        extensions.get().map(ConnectionUse::admit);
        Ok(())
    }

    /// Reads a body of at most `most` bytes. The permit counts them until the request is done.
    async fn read(&self, body: Body, most: usize) -> Result<(Bytes, OwnedSemaphorePermit), Refusal> {
        timeout(BODY_TIME, self.read_frames(body, most)).await.unwrap_or(Err(Refusal::Slow))
    }

    async fn read_frames(&self, body: Body, most: usize) -> Result<(Bytes, OwnedSemaphorePermit), Refusal> {
        let mut body = pin!(body);
        let mut bytes = BytesMut::new();
        let reserve = |count: usize| {
            let permits = u32::try_from(count.div_ceil(PERMIT)).unwrap_or(u32::MAX);
            Arc::clone(&self.waiting).try_acquire_many_owned(permits).map_err(|_| Refusal::Busy)
        };
        let mut permit = reserve(1)?;
        while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
            let Ok(data) = frame.map_err(|_| Refusal::Gone)?.into_data() else { continue };
            let needed = bytes.len() + data.len();
            if needed > most {
                return Err(Refusal::TooLarge);
            }
            let held = permit.num_permits() * PERMIT;
            if needed > held {
                permit.merge(reserve(needed - held)?);
            }
            bytes.extend_from_slice(&data);
        }
        Ok((bytes.freeze(), permit))
    }

    /// Waits until no other request is recorded.
    async fn turn(&self) -> Result<OwnedMutexGuard<Recording>, Refusal> {
        timeout(TURN_TIME, Arc::clone(&self.recording).lock_owned()).await.map_err(|_| Refusal::Busy)
    }

    fn forward(&self, body: Option<ForwardedBody>) {
        if let Some((forwarder, body)) = self.forwarder.as_ref().zip(body) {
            forwarder.offer(body);
        }
    }
}

/// The body of a request over HTTP, with what its head says of it.
struct AdmittedBody {
    form: BodyForm,
    encoding: BodyEncoding,
    headers: HeaderMap,
    body: Bytes,
    _permit: OwnedSemaphorePermit,
}

/// Decodes and records a body of `length` bytes on a thread for blocking calls. Returns the number of rejected items.
async fn record(
    mut recording: OwnedMutexGuard<Recording>,
    signal: Signal,
    form: BodyForm,
    length: usize,
    decode: impl FnOnce() -> Result<Bytes, Refusal> + Send + 'static,
) -> Result<u64, Refusal> {
    let take = move || {
        let body = decode()?;
        recording.take(signal, form == BodyForm::Json, &body, length, SystemTime::now().into())
    };
    tokio::task::spawn_blocking(take).await.unwrap_or(Err(Refusal::Failed))
}

/// Answers a request. It is recorded also if the client leaves: a program that ends closes its connection after the last
/// byte, and the service of a connection ends with it.
async fn answer(State(receiver): State<Arc<Receiver>>, request: Request) -> Response<Body> {
    let answer = tokio::spawn(receiver.answer(request)).await;
    answer.unwrap_or_else(|_| Refusal::Failed.http(BodyForm::Json))
}

/// The call over gRPC, once tonic has decoded its message.
struct GrpcExport {
    signal: Signal,
    length: usize,
    recording: Option<OwnedMutexGuard<Recording>>,
    counts: SharedCounts,
    is_answered: Arc<AtomicBool>,
}

impl tonic::server::UnaryService<Bytes> for GrpcExport {
    type Response = Bytes;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Bytes>, tonic::Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let (signal, length, counts) = (self.signal, self.length, self.counts.clone());
        self.is_answered.store(true, Ordering::Relaxed);
        let recording = self.recording.take();
        Box::pin(async move {
            let recorded = match recording {
                Some(recording) => {
                    record(recording, signal, BodyForm::Protobuf, length, || Ok(request.into_inner())).await
                }
                None => Err(Refusal::Failed),
            };
            match recorded {
                Ok(rejected) => Ok(tonic::Response::new(taken_message(signal, rejected).into())),
                Err(refusal) => {
                    counts.refuse(refusal.word());
                    Err(refusal.grpc())
                }
            }
        })
    }
}

/// Returns the encoding of the messages; `None` for another content type.
fn form_of(headers: &HeaderMap) -> Option<BodyForm> {
    let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "application/x-protobuf" | "application/protobuf" => Some(BodyForm::Protobuf),
        "application/json" => Some(BodyForm::Json),
        _ => None,
    }
}

fn has_token(headers: &HeaderMap, expected: &TokenHash) -> bool {
    let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.split_once(' '));
    // The hashes of equal length are compared, so that the time does not depend on the token.
    given.is_some_and(|(scheme, token)| {
        scheme.eq_ignore_ascii_case("bearer") && Sha256::digest(token.trim())[..] == expected[..]
    })
}

/// Returns true if the client called this machine by an address or as localhost. A web page whose name leads to this
/// machine (DNS rebinding) sends that name.
fn is_own_host(uri: &Uri, headers: &HeaderMap) -> bool {
    let is_own = |host: &str| {
        let host = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
        host == "localhost" || host.ends_with(".localhost") || host.parse::<IpAddr>().is_ok()
    };
    let by_header = headers.get_all(HOST).iter().all(|host| {
        let host = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
        host.is_some_and(|host| is_own(host.host()))
    });
    by_header && uri.host().is_none_or(is_own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_this_machine() {
        for (host, is_own) in [
            ("localhost:4318", true),
            ("LOCALHOST", true),
            ("127.0.0.1:4318", true),
            ("[::1]:4318", true),
            ("192.168.1.7", true),
            ("evil.example:4318", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
        ] {
            let headers: HeaderMap = [(HOST, HeaderValue::from_static(host))].into_iter().collect();
            assert_eq!(is_own_host(&Uri::from_static("/v1/traces"), &headers), is_own, "{host}");
        }
        let absolute = Uri::from_static("http://evil.example/v1/traces");
        assert!(!is_own_host(&absolute, &HeaderMap::new()));
        assert!(is_own_host(&Uri::from_static("/v1/traces"), &HeaderMap::new()));
    }

    #[test]
    fn the_token_is_the_whole_text_after_the_scheme() {
        let hash: TokenHash = Sha256::digest("s3cret").into();
        for (value, is_right) in [
            ("Bearer s3cret", true),
            ("bearer s3cret ", true),
            ("Bearer s3cre", false),
            ("Basic s3cret", false),
        ] {
            let headers: HeaderMap = [(AUTHORIZATION, HeaderValue::from_static(value))].into_iter().collect();
            assert_eq!(has_token(&headers, &hash), is_right, "{value}");
        }
        assert!(!has_token(&HeaderMap::new(), &hash));
    }
}
