//! The one way to say that a value is not acceptable.

use serde::{Deserialize, Serialize};

/// Longest value that is repeated back in an error.
const SHOWN_CHARACTERS_MAX: usize = 120;

/// A field whose value cannot be accepted, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{field} `{value}` {reason}")]
pub struct Invalid {
    /// Path of the field as the caller wrote it, such as `deployment.image.checksum`.
    pub field: String,
    /// The value, cut to what can be shown.
    pub value: String,
    /// What is wrong and what would be right; reads on from the value.
    pub reason: String,
}

impl Invalid {
    /// Names the field, the value and the reason.
    #[must_use]
    pub fn new(field: &str, value: &str, reason: impl Into<String>) -> Self {
        let mut shown: String = value.chars().take(SHOWN_CHARACTERS_MAX).collect();
        if shown.len() < value.len() {
            shown.push('…');
        }
        Self { field: field.to_owned(), value: shown, reason: reason.into() }
    }

    /// The same, with the field's path placed under `parent`.
    #[must_use]
    pub fn under(mut self, parent: &str) -> Self {
        self.field = format!("{parent}.{}", self.field);
        self
    }
}
