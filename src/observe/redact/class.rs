//! The classes of redacted texts, and their counts.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::text::words::words;

words! {
    /// A class of the built-in rules.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum KnownClass {
        GitHub = "github",
        GitLab = "gitlab",
        Slack = "slack",
        Stripe = "stripe",
        OpenAi = "openai",
        Anthropic = "anthropic",
        ModelHost = "model_host",
        Agent = "agent",
        Aws = "aws",
        Google = "google",
        Azure = "azure",
        Package = "package",
        Cloud = "cloud",
        Vault = "vault",
        Mail = "mail",
        Work = "work",
        Ci = "ci",
        Jwt = "jwt",
        PrivateKey = "private_key",
        AuthHeader = "auth_header",
        Cookie = "cookie",
        Url = "url",
        Webhook = "webhook",
        KeyValue = "key_value",
        Flag = "flag",
        Email = "email",
        Card = "card",
        Iban = "iban",
        Ssn = "ssn",
        Phone = "phone",
        NationalId = "national_id",
        Ip = "ip",
        Mac = "mac",
        Imei = "imei",
        UserPath = "user_path",
        Entropy = "entropy",
        Unchecked = "unchecked",
    }
}

/// The class of a replaced text. Its name is in the placeholder and in the counts of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedactionClass {
    Known(KnownClass),
    /// The name of a pattern in the user's configuration; never that of a known class.
    Custom(Arc<str>),
}

impl RedactionClass {
    pub fn name(&self) -> &str {
        match self {
            RedactionClass::Known(class) => class.as_str(),
            RedactionClass::Custom(name) => name,
        }
    }
}

impl From<KnownClass> for RedactionClass {
    fn from(class: KnownClass) -> RedactionClass {
        RedactionClass::Known(class)
    }
}

/// By name: the order of the counts in a record.
impl Ord for RedactionClass {
    fn cmp(&self, other: &RedactionClass) -> Ordering {
        self.name().cmp(other.name())
    }
}

impl PartialOrd for RedactionClass {
    fn partial_cmp(&self, other: &RedactionClass) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for RedactionClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Number of replaced texts, by class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedactionCounts(BTreeMap<RedactionClass, u32>);

impl RedactionCounts {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Iterates over the counts in the order of the names of their classes.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.0.iter().map(|(class, count)| (class.name(), *count))
    }

    pub(super) fn add(&mut self, class: impl Into<RedactionClass>) {
        *self.0.entry(class.into()).or_default() += 1;
    }
}
