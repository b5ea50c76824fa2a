//! Requests that carry encoded spans or log records.

use std::collections::BTreeMap;

use crate::export::otlp::protobuf::ProtobufWriter;
use crate::export::otlp::semconv;

/// Field numbers, which requests of spans and of log records have in common (OTLP `trace_service.proto`,
/// `logs_service.proto`, `trace.proto`, `logs.proto`, `resource.proto`, `common.proto`).
pub(super) mod field {
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

    /// Returns the number of bytes that each request with this resource needs for its attributes.
    pub(super) fn length(&self) -> usize {
        self.attributes.len()
    }

    /// Appends the resource, and items of its scope that `items` appends.
    pub(super) fn write(
        &self,
        items: Option<impl FnOnce(&mut ProtobufWriter)>,
        request: &mut ProtobufWriter,
    ) {
        request.message(field::RESOURCES, |resources| {
            resources.bytes(field::RESOURCE, &self.attributes);
            if let Some(items) = items {
                resources.message(field::SCOPES, |scopes| {
                    scopes.message(field::SCOPE, |scope| {
                        scope.bytes(field::SCOPE_NAME, semconv::SCOPE.as_bytes());
                        scope.bytes(field::SCOPE_VERSION, env!("CARGO_PKG_VERSION").as_bytes());
                    });
                    items(scopes);
                });
            }
        });
    }
}

/// Returns an encoded request without items, which is valid for spans, log records and points.
pub(super) fn empty_request() -> Vec<u8> {
    let mut request = ProtobufWriter::default();
    RequestOrigin::default().write(None::<fn(&mut ProtobufWriter)>, &mut request);
    request.into_bytes()
}
