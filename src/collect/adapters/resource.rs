//! The resource of some items. An attribute that a table names is looked up once and redacted once, for all items.

use std::borrow::Cow;
use std::cell::RefCell;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::{position_of, redacted};
use crate::observe::redact::{Field, Redactor};

pub(super) struct SentResource<'r> {
    attributes: &'r [KeyValue],
    /// Places of the attributes that were looked up, by name.
    places: RefCell<Vec<(&'static str, Option<usize>)>>,
    /// Redacted texts of attributes.
    texts: RefCell<Vec<(&'static str, Field, Cow<'static, str>)>>,
}

impl<'r> SentResource<'r> {
    pub(super) fn new(resource: Option<&'r Resource>) -> SentResource<'r> {
        let attributes = resource.map_or(&[][..], |resource| &resource.attributes);
        SentResource { attributes, places: RefCell::default(), texts: RefCell::default() }
    }

    /// Returns the value of the attribute `name`.
    pub(super) fn value(&self, name: &'static str) -> Option<&'r Value> {
        let mut places = self.places.borrow_mut();
        let known = places.iter().find(|(known, _)| *known == name).map(|(_, place)| *place);
        let place = known.unwrap_or_else(|| {
            let place = position_of(self.attributes, name);
            places.push((name, place));
            place
        });
        self.attributes[place?].value.as_ref()?.value.as_ref()
    }

    /// Returns the name of the service as it came; empty without one.
    pub(super) fn service(&self) -> &'r str {
        match self.value("service.name") {
            Some(Value::StringValue(name)) => name,
            _ => "",
        }
    }

    /// Returns `text`, the text of the attribute `name`, redacted as `field`.
    pub(super) fn redacted(
        &self,
        name: &'static str,
        field: Field,
        text: &str,
        redactor: &mut Redactor,
    ) -> Cow<'static, str> {
        let mut texts = self.texts.borrow_mut();
        if let Some((.., text)) =
            texts.iter().find(|(known, as_field, _)| (*known, *as_field) == (name, field))
        {
            return text.clone();
        }
        let text = redacted(redactor, field, text);
        texts.push((name, field, text.clone()));
        text
    }

    /// Returns the redacted name of the service.
    pub(super) fn redacted_service(&self, redactor: &mut Redactor) -> Cow<'static, str> {
        self.redacted("service.name", Field::Name, self.service(), redactor)
    }
}
