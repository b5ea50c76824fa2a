//! One line of a file of bodies: redacted arguments, or a redacted result.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::observe::event::{Body, CallTarget};
use crate::record::timestamp::Timestamp;
use crate::record::words::{self, BodyPart};

/// The only value of `schema` that this version writes.
const SCHEMA: &str = "spantap-bodies/1";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct BodyRecord<'a> {
    #[serde(borrow)]
    schema: Cow<'a, str>,
    timestamp: Timestamp,
    #[serde(borrow)]
    connection_id: Cow<'a, str>,
    #[serde(borrow)]
    request_id: Cow<'a, str>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    target: Option<Cow<'a, str>>,
    /// The span of the operation, which its record has too.
    #[serde(borrow)]
    pub(crate) span_id: Cow<'a, str>,
    #[serde(deserialize_with = "words::known")]
    pub(crate) part: Option<BodyPart>,
    /// Length of the body as received, in bytes.
    pub(crate) size_bytes: u64,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    hash: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    redactions: BTreeMap<Cow<'a, str>, u32>,
    /// JSON text, redacted and cut; absent if the body was not seen whole.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<Cow<'a, str>>,
}

impl<'a> BodyRecord<'a> {
    pub(crate) fn new(body: &'a Body, connection_id: &'a str, at: Timestamp) -> BodyRecord<'a> {
        BodyRecord {
            schema: SCHEMA.into(),
            timestamp: at,
            connection_id: connection_id.into(),
            request_id: body.request_id.as_str().into(),
            method: body.method.as_str().into(),
            target: body.target.as_ref().map(CallTarget::text).map(|text| text.as_str().into()),
            span_id: body.span_id.text().into(),
            part: Some(body.part),
            size_bytes: body.size,
            hash: body.hash.map(|hash| hash.text().into()),
            redactions: body.redactions.iter().map(|(class, count)| (Cow::Borrowed(class), count)).collect(),
            body: body.text.as_ref().map(|text| text.as_str().into()),
        }
    }
}
