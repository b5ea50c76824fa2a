//! Requests that carry encoded spans or log records.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::export::otlp::protobuf::ProtobufWriter;
use crate::export::otlp::semconv;

/// One span or log record, encoded.
#[derive(Clone, Debug)]
pub(super) struct EncodedItem {
    pub(super) origin: Arc<RequestOrigin>,
    pub(super) bytes: Box<[u8]>,
}

/// Field numbers, which requests of spans and of log records have in common (OTLP `trace_service.proto`,
/// `logs_service.proto`, `trace.proto`, `logs.proto`, `resource.proto`, `common.proto`).
mod field {
    pub(crate) const RESOURCES: u32 = 1;
    pub(crate) const RESOURCE: u32 = 1;
    pub(crate) const RESOURCE_ATTRIBUTES: u32 = 1;
    pub(crate) const SCOPES: u32 = 2;
    pub(crate) const SCOPE: u32 = 1;
    pub(crate) const SCOPE_NAME: u32 = 1;
    pub(crate) const SCOPE_VERSION: u32 = 2;
    pub(crate) const ITEMS: u32 = 2;
}

/// Attributes of the resource that items come from, encoded.
#[derive(Clone, Debug, Default)]
pub(super) struct RequestOrigin {
    attributes: Box<[u8]>,
}

impl RequestOrigin {
    pub(super) fn new(attributes: &BTreeMap<String, String>) -> RequestOrigin {
        let mut encoded = ProtobufWriter::default();
        for (key, value) in attributes {
            encoded.text_attribute(field::RESOURCE_ATTRIBUTES, key, value);
        }
        RequestOrigin { attributes: encoded.into_bytes().into() }
    }

    /// Appends the resource, and `items` of its scope if there are any.
    fn write(&self, items: &[EncodedItem], request: &mut ProtobufWriter) {
        request.message(field::RESOURCES, |resources| {
            resources.bytes(field::RESOURCE, &self.attributes);
            if !items.is_empty() {
                resources.message(field::SCOPES, |scopes| {
                    scopes.message(field::SCOPE, |scope| {
                        scope.bytes(field::SCOPE_NAME, semconv::SCOPE.as_bytes());
                        scope.bytes(field::SCOPE_VERSION, env!("CARGO_PKG_VERSION").as_bytes());
                    });
                    items.iter().for_each(|item| scopes.bytes(field::ITEMS, &item.bytes));
                });
            }
        });
    }
}

/// Returns an encoded request of spans or log records. Items in a row of one origin share its resource.
pub(super) fn request(items: &[EncodedItem]) -> Vec<u8> {
    let size: usize = items.iter().map(|item| item.bytes.len() + 4).sum();
    let origin = items.first().map_or(0, |item| item.origin.attributes.len());
    let mut request = ProtobufWriter::with_capacity(size + origin + 100);
    for group in items.chunk_by(|a, b| Arc::ptr_eq(&a.origin, &b.origin)) {
        group[0].origin.write(group, &mut request);
    }
    request.into_bytes()
}

/// Returns an encoded request without items, which is valid for spans, log records and points.
pub(super) fn empty_request() -> Vec<u8> {
    let mut request = ProtobufWriter::default();
    RequestOrigin::default().write(&[], &mut request);
    request.into_bytes()
}
