//! Fields that a route sets, adds and removes.

use super::template::Template;
use hp_core::wire::header::FieldName;

/// What becomes of the fields of a head, in this order: some are removed, then some are added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldChanges {
    /// Names that are removed; those that are set are among them.
    pub removed: Vec<String>,
    /// What is appended.
    pub added: Vec<(String, Template)>,
    /// What stands in Host instead of what the client asked for.
    pub host: Option<Template>,
}

impl FieldChanges {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty() && self.host.is_none()
    }

    /// Whether a field that came is left out.
    #[must_use]
    #[inline]
    pub fn removes(&self, name: &str) -> bool {
        self.removed
            .iter()
            .any(|removed| removed.eq_ignore_ascii_case(name))
    }
}

/// Whether the proxy writes a field itself, or its meaning ends at the next hop, so that no route may touch it.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    FieldName::classify(name.as_bytes()) != FieldName::Other
}

/// What is told of a text that no field has as its name (RFC 9110 §5.1).
pub const NO_FIELD_NAME: &str = "is no name of a field; write letters, digits, - and _";
/// What is told of a text that no field has as its value (RFC 9110 §5.5).
pub const NO_FIELD_VALUE: &str =
    "is no value of a field; leave out controls, and spaces at its ends";
