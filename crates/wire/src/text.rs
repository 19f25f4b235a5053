//! Bounds on what callers write.

use bessemer_domain::Invalid;

/// Longest value of a short text field, as in Ironic's database.
pub(crate) const SHORT_CHARACTERS_MAX: usize = 255;

/// Longest description, as in Ironic.
pub(crate) const DESCRIPTION_CHARACTERS_MAX: usize = 4096;

/// The text, if it is not too long.
pub(crate) fn bounded(field: &str, text: &str, characters_max: usize) -> Result<String, Invalid> {
    if text.chars().count() > characters_max {
        let reason = format!("is longer than {characters_max} characters");
        return Err(Invalid::new(field, text, reason));
    }
    Ok(text.to_owned())
}
