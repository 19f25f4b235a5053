//! Traits: words for what a machine has, by which allocations and templates find it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::Invalid;

/// Most traits of a node, as in Ironic.
pub const TRAITS_MAX: usize = 50;

/// Longest trait.
const CHARACTERS_MAX: usize = 255;

/// A trait: one of os-traits, such as `HW_CPU_X86_VMX`, or the site's own, which begin with `CUSTOM_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Trait(String);

impl Trait {
    /// The word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Trait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Trait {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let is_of = |it: char| it.is_ascii_uppercase() || it.is_ascii_digit() || it == '_';
        let has_namespace = text.split_once('_').is_some_and(|(namespace, name)| {
            namespace.starts_with(|it: char| it.is_ascii_uppercase()) && !name.is_empty()
        });
        if text.len() <= CHARACTERS_MAX && has_namespace && text.chars().all(is_of) {
            return Ok(Self(text.to_owned()));
        }
        let reason = format!(
            "is not a trait: one of os-traits such as `HW_CPU_X86_VMX`, or `CUSTOM_` and then capitals, digits and `_`; \
             {CHARACTERS_MAX} characters at most"
        );
        Err(Invalid::new("traits", text, reason))
    }
}

impl<'de> Deserialize<'de> for Trait {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traits_are_as_in_ironic() {
        for good in ["CUSTOM_GPU", "HW_CPU_X86_VMX", "CUSTOM_A1"] {
            assert_eq!(good.parse::<Trait>().unwrap().as_str(), good);
        }
        for bad in ["", "CUSTOM_", "custom_gpu", "GPU", "CUSTOM GPU", &"CUSTOM_".repeat(40)] {
            assert_eq!(bad.parse::<Trait>().unwrap_err().field, "traits", "{bad}");
        }
    }
}
