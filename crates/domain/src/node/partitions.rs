//! How the root device is divided for an image of type `partition`: one file system, which becomes the root partition.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Invalid;

/// The partitions beside the EFI system partition. Sizes count as Ironic's keys do: its GB are GiB, its MB are MiB.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PartitionLayout {
    /// Size of the root partition; none gives it all that the others leave.
    pub root_gib: Option<u32>,
    /// Size of the swap partition; none makes none.
    pub swap_mib: Option<u32>,
    /// A file system for scratch data.
    pub ephemeral: Option<Ephemeral>,
}

/// A partition with an empty file system, found by its label `ephemeral0`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ephemeral {
    /// Its size.
    pub size_gib: u32,
    /// What is made on it.
    pub format: EphemeralFormat,
    /// Whether what an earlier deployment left there is kept.
    pub preserve: bool,
}

/// A file system that the agent can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EphemeralFormat {
    /// Linux' usual one.
    #[default]
    Ext4,
    /// What every system reads.
    Vfat,
}

impl EphemeralFormat {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Vfat => "vfat",
        }
    }
}

impl FromStr for EphemeralFormat {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "ext4" => Ok(Self::Ext4),
            "vfat" => Ok(Self::Vfat),
            _ => Err(Invalid::new("ephemeral_format", text, "is neither `ext4` nor `vfat`")),
        }
    }
}

/// The layout as Ironic's `instance_info` keys give it, unchecked. 0 and the empty text mean that a key is not set.
#[derive(Debug, Clone, Copy, Default)]
pub struct PartitionInput<'a> {
    /// `root_gb`.
    pub root_gb: u32,
    /// `swap_mb`.
    pub swap_mb: u32,
    /// `ephemeral_gb`.
    pub ephemeral_gb: u32,
    /// `ephemeral_format`.
    pub ephemeral_format: &'a str,
    /// `preserve_ephemeral`.
    pub preserve_ephemeral: bool,
}

impl PartitionLayout {
    /// Checks the keys against each other.
    ///
    /// # Errors
    /// [`Invalid`] naming the key, when one says how an ephemeral partition is made that is not asked for.
    pub fn try_new(input: &PartitionInput<'_>) -> Result<Self, Invalid> {
        let set = |size: u32| (size > 0).then_some(size);
        let format = match input.ephemeral_format {
            "" => EphemeralFormat::default(),
            name => name.parse()?,
        };
        let ephemeral = set(input.ephemeral_gb).map(|size_gib| Ephemeral {
            size_gib,
            format,
            preserve: input.preserve_ephemeral,
        });
        if ephemeral.is_none() {
            let needs = "needs an ephemeral partition: give ephemeral_gb";
            if !input.ephemeral_format.is_empty() {
                return Err(Invalid::new("ephemeral_format", input.ephemeral_format, needs));
            }
            if input.preserve_ephemeral {
                return Err(Invalid::new("preserve_ephemeral", "true", needs));
            }
        }
        Ok(Self { root_gib: set(input.root_gb), swap_mib: set(input.swap_mb), ephemeral })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_not_set_and_keys_of_a_missing_partition_are_refused() {
        let none = PartitionInput::default();
        assert_eq!(PartitionLayout::try_new(&none).unwrap(), PartitionLayout::default());

        let all = PartitionInput {
            root_gb: 10,
            swap_mb: 512,
            ephemeral_gb: 2,
            ephemeral_format: "vfat",
            preserve_ephemeral: true,
        };
        let ephemeral = Ephemeral { size_gib: 2, format: EphemeralFormat::Vfat, preserve: true };
        assert_eq!(
            PartitionLayout::try_new(&all).unwrap(),
            PartitionLayout { root_gib: Some(10), swap_mib: Some(512), ephemeral: Some(ephemeral) }
        );

        let cases = [
            (PartitionInput { ephemeral_format: "ext4", ..none }, "ephemeral_format"),
            (PartitionInput { preserve_ephemeral: true, ..none }, "preserve_ephemeral"),
            (
                PartitionInput { ephemeral_format: "xfs", ephemeral_gb: 1, ..none },
                "ephemeral_format",
            ),
        ];
        for (input, field) in cases {
            let invalid = PartitionLayout::try_new(&input).unwrap_err();
            assert!(invalid.to_string().contains(field), "{invalid}");
        }
    }
}
