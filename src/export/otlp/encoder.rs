//! The spans and log records of one connection, encoded record by record.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::export::otlp::logs;
use crate::export::otlp::protobuf::ProtobufWriter;
use crate::export::otlp::request::RequestOrigin;
use crate::export::otlp::semconv;
use crate::export::otlp::settings::OtlpSettings;
use crate::export::otlp::spans::SpanTracker;
use crate::export::otlp::worker::ExportQueues;
use crate::record::words::Side;
use crate::record::{EventName, Identity, Record};

/// Makes the spans and log records of one connection, of live traffic and of recorded sessions alike.
pub(crate) struct ConnectionEncoder {
    tracker: Option<SpanTracker>,
    sends_logs: bool,
    /// Attributes of the resource. Spans and logs also carry the server's version, once it is known.
    attributes: BTreeMap<String, String>,
    origin: Arc<RequestOrigin>,
}

/// Returns the attributes of a connection's resource: the server as a service.
pub(super) fn attributes(identity: &Identity, settings: &OtlpSettings) -> BTreeMap<String, String> {
    use semconv::resource as name;
    let own = [
        (name::SERVICE_NAME, identity.server_name.as_str()),
        (name::SERVICE_NAMESPACE, "mcp"),
        (name::SERVICE_INSTANCE_ID, identity.connection_id.as_str()),
        (name::TELEMETRY_SDK_NAME, "opentelemetry"),
        (name::TELEMETRY_SDK_LANGUAGE, "rust"),
        (name::TELEMETRY_DISTRO_NAME, semconv::SCOPE),
        (name::TELEMETRY_DISTRO_VERSION, env!("CARGO_PKG_VERSION")),
    ];
    let mut attributes: BTreeMap<String, String> =
        own.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    attributes.extend(settings.resource.iter().cloned());
    attributes
}

impl ConnectionEncoder {
    pub(crate) fn new(settings: &OtlpSettings, identity: &Identity, side: Side) -> ConnectionEncoder {
        let attributes = attributes(identity, settings);
        ConnectionEncoder {
            tracker: settings.traces.is_some().then(|| SpanTracker::new(side, settings.sampling())),
            sends_logs: settings.logs.is_some(),
            origin: Arc::new(RequestOrigin::new(&attributes)),
            attributes,
        }
    }

    /// Queues the spans and the log of one record.
    ///
    /// A backend shows no part of a trace before its root, so the connection of live traffic does not wait.
    pub(super) fn send(
        &mut self,
        record: &Record<'_>,
        queues: &ExportQueues,
        buffer: &mut ProtobufWriter,
        is_live: bool,
    ) {
        self.update_origin(record);
        if let Some(tracker) = &mut self.tracker {
            for span in tracker.connection(record) {
                queues.put(&queues.spans, &self.origin, &span, is_live);
            }
            buffer.clear();
            if tracker.operation(record, buffer) {
                queues.put(&queues.spans, &self.origin, buffer.as_bytes(), false);
            }
        }
        if self.sends_logs {
            buffer.clear();
            match logs::log(record, buffer) {
                Ok(()) => queues.put(&queues.logs, &self.origin, buffer.as_bytes(), false),
                Err(_) => queues.losses.add("not_encoded", 1),
            }
        }
    }

    /// Updates the state from a record that is not to be sent. Later records depend on it: the connection's
    /// span ends with the first answer, and the server names its version once.
    pub(crate) fn observe_without_sending(&mut self, record: &Record<'_>) {
        self.update_origin(record);
        if let Some(tracker) = &mut self.tracker {
            let _ = tracker.connection(record);
        }
    }

    /// Adds the server's version to the resource. It is known before the server's first span is made.
    fn update_origin(&mut self, record: &Record<'_>) {
        let Some(version) = record.server_version.as_deref() else { return };
        let name = semconv::resource::SERVICE_VERSION;
        if record.event == EventName::PeerIdentified && !self.attributes.contains_key(name) {
            self.attributes.insert(name.to_owned(), version.to_owned());
            self.origin = Arc::new(RequestOrigin::new(&self.attributes));
        }
    }
}
