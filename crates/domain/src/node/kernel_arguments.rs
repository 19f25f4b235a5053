//! Words for a kernel's command line, safe to be put into a boot script.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Invalid;

/// Longest command line that is taken. Linux on x86 has room for 2,048 bytes, with ours among them.
const BYTES_MAX: usize = 1024;

/// Words for a kernel's command line.
///
/// They end in an iPXE script, which knows no quotes: it splits a line at white space, expands `${…}` in every word, and ends
/// a command at `;`, `||`, `&&` and before a word that begins with `#`. Words that would mean something there are refused, so
/// that nobody can put commands of his own into the script (Ironic's CVE-2026-46447).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KernelArguments(String);

impl KernelArguments {
    /// As one line, without white space at its ends.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KernelArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for KernelArguments {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let refuse = |word: &str, reason: &str| Err(Invalid::new("kernel_arguments", word, reason));
        if text.len() > BYTES_MAX {
            return refuse(
                &format!("{} bytes", text.len()),
                &format!("are more than the {BYTES_MAX} bytes that a command line has room for"),
            );
        }
        let printable = |it: char| it == ' ' || it.is_ascii_graphic();
        if let Some(odd) = text.chars().find(|it| !printable(*it)) {
            return refuse(&odd.escape_default().to_string(), "is not printable ASCII");
        }
        for word in text.split_ascii_whitespace() {
            if word.contains("${") {
                return refuse(word, "holds `${`, which network boot would take for a setting");
            }
            if word.starts_with('#') || [";", "||", "&&"].contains(&word) {
                return refuse(word, "is a word that would end the command in a boot script");
            }
        }
        Ok(Self(text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_kept_and_white_space_is_not() {
        let arguments: KernelArguments =
            "  console=ttyS0,115200   a=b;c x#y $HOME ".parse().unwrap();
        assert_eq!(arguments.as_str(), "console=ttyS0,115200 a=b;c x#y $HOME");
        assert_eq!("".parse::<KernelArguments>().unwrap().as_str(), "");
    }

    #[test]
    fn what_a_script_would_obey_is_refused_by_the_word() {
        let refused = [
            ("a ${net0/ip}", "${net0/ip}"),
            ("a=x${y", "a=x${y"),
            ("a ; shell", ";"),
            ("a || shell", "||"),
            ("a && shell", "&&"),
            ("a #b", "#b"),
            ("a\nshell", "\\n"),
            ("a\tb", "\\t"),
            ("ä", "\\u{e4}"),
        ];
        for (text, value) in refused {
            let invalid = text.parse::<KernelArguments>().unwrap_err();
            assert_eq!(
                (invalid.field.as_str(), invalid.value.as_str()),
                ("kernel_arguments", value)
            );
        }
        assert!("x".repeat(BYTES_MAX + 1).parse::<KernelArguments>().is_err());
    }
}
