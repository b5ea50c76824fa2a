//! A collector on a port of its own that behaves as configured and keeps every request: OTLP over HTTP and
//! over gRPC, with and without TLS.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde::de::DeserializeOwned;

use super::certificates::Certificates;

/// Behaviour of a collector.
#[derive(Clone, Debug, PartialEq)]
pub enum Manner {
    Good,
    Slow(Duration),
    /// Answers with this status and these header lines.
    Status(u16, String),
    Garbage,
    /// Sends an answer that never ends.
    Endless,
    /// Sends an answer byte by byte.
    Dripping,
    /// Takes the request and does not answer.
    Hanging,
    /// Closes the connection without having read it all.
    Reset,
    /// Takes each request without one item.
    Partial,
    /// Takes requests of at most so many bytes.
    Small(usize),
    /// This path hangs, the others are taken.
    HangingOn(&'static str),
    /// This path does not exist, the others are taken.
    Without(&'static str),
    /// Answers over gRPC with this status.
    Grpc(u32),
}

/// A request, decompressed.
#[derive(Clone, Debug)]
pub struct Request {
    /// The path over HTTP, also for requests over gRPC.
    pub path: String,
    /// `name: value`, in lower case.
    pub headers: Vec<String>,
    pub body: Vec<u8>,
    pub gzip: bool,
}

pub struct Collector {
    pub endpoint: String,
    got: Arc<Mutex<Vec<Request>>>,
}

impl Collector {
    pub fn start(manner: Manner) -> Collector {
        Collector::listen("http", move |stream, got| serve(stream, &manner, got))
    }

    /// Starts a collector with TLS that requires a certificate of the client.
    pub fn with_tls(certificates: &Certificates) -> Collector {
        let config = Arc::new(certificates.server(&[]));
        Collector::listen("https", move |stream, got| {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            serve(rustls::StreamOwned::new(connection, stream), &Manner::Good, got);
        })
    }

    pub fn grpc(manner: Manner) -> Collector {
        Collector::listen("http", move |stream, got| grpc(stream, None, &manner, got))
    }

    pub fn grpc_with_tls(certificates: &Certificates) -> Collector {
        let config = Arc::new(certificates.server(&[b"h2"]));
        Collector::listen("https", move |stream, got| {
            grpc(stream, Some(Arc::clone(&config)), &Manner::Good, got);
        })
    }

    fn listen(
        scheme: &str,
        serve: impl Fn(TcpStream, &Mutex<Vec<Request>>) + Send + Sync + 'static,
    ) -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("{scheme}://localhost:{}", listener.local_addr().unwrap().port());
        let got: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (requests, serve) = (Arc::clone(&got), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (requests, serve) = (Arc::clone(&requests), Arc::clone(&serve));
                std::thread::spawn(move || serve(stream, &requests));
            }
        });
        Collector { endpoint, got }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.got.lock().unwrap().clone()
    }

    fn of<M: Message + Default + DeserializeOwned>(&self, path: &str) -> Vec<M> {
        let requests = self.requests().into_iter().filter(|request| request.path == path);
        requests
            .map(|request| {
                let json = request.headers.iter().any(|header| header == "content-type: application/json");
                match json {
                    true => serde_json::from_slice(&request.body).unwrap(),
                    false => M::decode(request.body.as_slice()).unwrap(),
                }
            })
            .collect()
    }

    /// Returns each span with its resource.
    pub fn spans_of_resources(&self) -> Vec<(String, Span)> {
        let requests: Vec<ExportTraceServiceRequest> = self.of("/v1/traces");
        let resources = requests.into_iter().flat_map(|request| request.resource_spans);
        resources
            .flat_map(|of| {
                let resource = attributes(&of.resource.unwrap().attributes);
                let spans = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
                spans.map(move |span| (resource.clone(), span))
            })
            .collect()
    }

    pub fn spans(&self) -> Vec<Span> {
        self.spans_of_resources().into_iter().map(|(_, span)| span).collect()
    }

    pub fn logs(&self) -> Vec<LogRecord> {
        let requests: Vec<ExportLogsServiceRequest> = self.of("/v1/logs");
        let resources = requests.into_iter().flat_map(|request| request.resource_logs);
        resources.flat_map(|resource| resource.scope_logs).flat_map(|scope| scope.log_records).collect()
    }

    /// Returns the metrics of each export, in order.
    pub fn exports(&self) -> Vec<Vec<Metric>> {
        let requests: Vec<ExportMetricsServiceRequest> = self.of("/v1/metrics");
        let metrics = |request: ExportMetricsServiceRequest| {
            let resources = request.resource_metrics.into_iter();
            resources.flat_map(|resource| resource.scope_metrics).flat_map(|scope| scope.metrics).collect()
        };
        requests.into_iter().map(metrics).collect()
    }

    pub fn resource_of_metrics(&self) -> String {
        let requests: Vec<ExportMetricsServiceRequest> = self.of("/v1/metrics");
        let resource = requests.last().unwrap().resource_metrics[0].resource.clone();
        attributes(&resource.unwrap().attributes)
    }

    /// Returns the newest points of an instrument: their attributes as text, and their values.
    pub fn points(&self, name: &str) -> Vec<(String, f64)> {
        points(self.exports().last().expect("metrics"), name)
    }
}

/// Returns the points of one instrument in one export. The value of a histogram is its count.
pub fn points(metrics: &[Metric], name: &str) -> Vec<(String, f64)> {
    use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
    let number = |point: &NumberDataPoint| {
        let value = match point.value.unwrap() {
            Value::AsInt(value) => value as f64,
            Value::AsDouble(value) => value,
        };
        (attributes(&point.attributes), value)
    };
    let metric = metrics.iter().find(|metric| metric.name == name);
    match metric.and_then(|metric| metric.data.as_ref()) {
        Some(Data::Gauge(gauge)) => gauge.data_points.iter().map(number).collect(),
        Some(Data::Sum(sum)) => sum.data_points.iter().map(number).collect(),
        Some(Data::Histogram(histogram)) => {
            let count =
                |point: &opentelemetry_proto::tonic::metrics::v1::HistogramDataPoint| point.count as f64;
            histogram.data_points.iter().map(|point| (attributes(&point.attributes), count(point))).collect()
        }
        _ => Vec::new(),
    }
}

/// Returns attributes as `a=1 b=x`, sorted.
pub fn attributes(attributes: &[KeyValue]) -> String {
    let mut all: Vec<String> = attributes
        .iter()
        .map(|attribute| format!("{}={}", attribute.key, value(attribute.value.as_ref()).unwrap_or_default()))
        .collect();
    all.sort();
    all.join(" ")
}

fn value(found: Option<&AnyValue>) -> Option<String> {
    Some(match found?.value.as_ref()? {
        any_value::Value::StringValue(text) => text.clone(),
        any_value::Value::IntValue(number) => number.to_string(),
        any_value::Value::DoubleValue(number) => number.to_string(),
        any_value::Value::BoolValue(truth) => truth.to_string(),
        any_value::Value::KvlistValue(list) => format!("{{{}}}", attributes(&list.values)),
        any_value::Value::ArrayValue(list) => {
            let items = list.values.iter().map(|item| value(Some(item)).unwrap_or_default());
            format!("[{}]", items.collect::<Vec<_>>().join(" "))
        }
        other => format!("{other:?}"),
    })
}

/// Returns an attribute of a span as text.
pub fn text(span: &Span, key: &str) -> Option<String> {
    value(span.attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref())
}

fn unpacked(body: Vec<u8>, gzip: bool) -> Vec<u8> {
    if !gzip {
        return body;
    }
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(body.as_slice()).read_to_end(&mut plain).unwrap();
    plain
}

/// A `partial_success` without one item, for any signal.
const WITHOUT_ONE: [u8; 4] = [0x0a, 0x02, 0x08, 0x01];

fn serve(stream: impl Read + Write, manner: &Manner, got: &Mutex<Vec<Request>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut headers = Vec::new();
        loop {
            let mut header = String::new();
            if stream.read_line(&mut header).unwrap_or(0) == 0 || header == "\r\n" {
                break;
            }
            headers.push(header.trim_end().to_lowercase());
        }
        if *manner == Manner::Reset {
            return;
        }
        let length = headers.iter().find_map(|header| header.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        let gzip = headers.iter().any(|header| header == "content-encoding: gzip");
        let answer = |status: u16, extra: &str, body: &[u8]| {
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{extra}\r\n", body.len());
            [head.as_bytes(), body].concat()
        };
        let size = body.len();
        let bytes = match manner {
            Manner::Slow(time) => {
                std::thread::sleep(*time);
                answer(200, "", b"")
            }
            Manner::Status(status, extra) => answer(*status, extra, b"no"),
            Manner::Garbage => b"\0\xff\x13 this is not HTTP\r\n\r\n".to_vec(),
            Manner::Partial => answer(200, "", &WITHOUT_ONE),
            Manner::Small(most) if size > *most => {
                let _ = stream.get_mut().write_all(&answer(413, "", b""));
                continue;
            }
            Manner::Without(missing) if path == *missing => answer(404, "", b""),
            Manner::Hanging => return hang(),
            Manner::HangingOn(hanging) if path == *hanging => return hang(),
            Manner::Endless => {
                let writer = stream.get_mut();
                let _ = writer.write_all(b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n");
                while writer.write_all(b"1000\r\n").is_ok() && writer.write_all(&[b'x'; 4098]).is_ok() {}
                return;
            }
            Manner::Dripping => {
                for byte in answer(200, "", &[b'x'; 1000]) {
                    if stream.get_mut().write_all(&[byte]).is_err() {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(100));
                }
                return;
            }
            _ => answer(200, "", b""),
        };
        got.lock().unwrap().push(Request { path, headers, body: unpacked(body, gzip), gzip });
        if stream.get_mut().write_all(&bytes).and_then(|()| stream.get_mut().flush()).is_err() {
            return;
        }
    }
}

/// Waits longer than any test.
fn hang() {
    std::thread::sleep(Duration::from_secs(120));
}

fn grpc(
    stream: TcpStream,
    tls: Option<Arc<rustls::ServerConfig>>,
    manner: &Manner,
    got: &Mutex<Vec<Request>>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        stream.set_nonblocking(true).unwrap();
        let stream = tokio::net::TcpStream::from_std(stream).unwrap();
        match tls {
            Some(config) => {
                if let Ok(stream) = tokio_rustls::TlsAcceptor::from(config).accept(stream).await {
                    grpc_calls(stream, manner, got).await;
                }
            }
            None => grpc_calls(stream, manner, got).await,
        }
    });
}

/// Serves calls one after the other, with the framing of gRPC: a byte that is 1 for a compressed message, the
/// length in four bytes, and the message.
async fn grpc_calls<S>(stream: S, manner: &Manner, got: &Mutex<Vec<Request>>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let (head, body) = request.into_parts();
        // The body arrives and the answer leaves only while the connection is polled.
        let driven = async {
            let message = whole(body).await?;
            let gzip = *message.first()? == 1;
            let path = match head.uri.path().rsplit('.').next()?.split_once('/')?.0 {
                "TraceService" => "/v1/traces",
                "MetricsService" => "/v1/metrics",
                _ => "/v1/logs",
            };
            let headers = head.headers.iter().map(|(name, value)| {
                format!("{name}: {}", value.to_str().unwrap_or_default().to_lowercase())
            });
            let request = Request {
                path: path.to_owned(),
                headers: headers.collect(),
                body: unpacked(message[5..].to_vec(), gzip),
                gzip,
            };
            let (status, answer) = match manner {
                Manner::Hanging => {
                    tokio::time::sleep(Duration::from_secs(120)).await;
                    (0, Vec::new())
                }
                Manner::Grpc(status) => (*status, Vec::new()),
                Manner::Partial => (0, WITHOUT_ONE.to_vec()),
                _ => (0, Vec::new()),
            };
            if status == 0 {
                got.lock().unwrap().push(request);
            }
            let response = http::Response::builder().header("content-type", "application/grpc");
            let mut stream = respond.send_response(response.body(()).ok()?, false).ok()?;
            if status == 0 {
                let length = u32::try_from(answer.len()).ok()?.to_be_bytes();
                let frame = [&[0][..], &length, &answer].concat();
                stream.send_data(frame.into(), false).ok()?;
            }
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", status.into());
            stream.send_trailers(trailers).ok()
        };
        drive(driven, &mut connection).await;
    }
}

async fn whole(mut body: h2::RecvStream) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.ok()?;
        let _ = body.flow_control().release_capacity(chunk.len());
        all.extend_from_slice(&chunk);
    }
    Some(all)
}

/// Runs `call` to its end while the connection moves its bytes.
async fn drive<S>(
    call: impl Future<Output = Option<()>>,
    connection: &mut h2::server::Connection<S, bytes::Bytes>,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut call = std::pin::pin!(call);
    std::future::poll_fn(|context| {
        let done = call.as_mut().poll(context).is_ready();
        // A second call on the connection waits in h2 until this one is done, and spantap sends one at a
        // time.
        let closed = connection.poll_closed(context).is_ready();
        if done || closed { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}
