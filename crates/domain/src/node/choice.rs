//! Choices among names: how one is read, and how one that is not there is refused.

use crate::Invalid;

/// The one of `all` that is called `text`.
///
/// # Errors
/// [`Invalid`] for `field`, with the names that there are.
pub(super) fn named<T: Copy>(
    field: &str,
    text: &str,
    all: &[T],
    name: fn(T) -> &'static str,
) -> Result<T, Invalid> {
    all.iter()
        .copied()
        .find(|it| name(*it) == text)
        .ok_or_else(|| Invalid::new(field, text, format!("is none of: {}", names(all, name))))
}

/// Their names, for a person.
pub(super) fn names<T: Copy>(all: &[T], name: fn(T) -> &'static str) -> String {
    all.iter().map(|it| name(*it)).collect::<Vec<_>>().join(", ")
}
