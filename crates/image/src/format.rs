//! What a source image is, by its content and never by its name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How much of a source's beginning [`probe`] wants, in bytes: up to ISO 9660's first volume
/// descriptor at 32 KiB, the farthest mark it looks at. A shorter source is probed as it is.
pub const PROBE_BYTES: usize = 36 << 10;

/// A disk format that can be prepared, as users declare it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    /// The bytes of the disk. GPT and MBR disks and ISO images are raw.
    Raw,
    /// QEMU's copy-on-write format, versions 2 and 3.
    Qcow2,
}

impl DiskFormat {
    /// `raw` or `qcow2`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

impl fmt::Display for DiskFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A declared format that is none.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("disk format `{name}` is not one of raw, qcow2")]
pub struct UnknownDiskFormat {
    /// What was declared.
    pub name: String,
}

impl FromStr for DiskFormat {
    type Err = UnknownDiskFormat;

    fn from_str(name: &str) -> Result<Self, UnknownDiskFormat> {
        match name.to_ascii_lowercase().as_str() {
            // Ironic's inspector calls partitioned raw disks `gpt` and users copy that.
            "raw" | "gpt" | "mbr" | "iso" => Ok(Self::Raw),
            "qcow2" => Ok(Self::Qcow2),
            _ => Err(UnknownDiskFormat { name: name.to_owned() }),
        }
    }
}

/// What the beginning of a source looks like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Content {
    /// A raw disk with a GPT.
    Gpt,
    /// A raw disk with a boot sector, partitioned by an MBR or not at all.
    Mbr,
    /// An ISO 9660 image, hybrid ones too.
    Iso,
    /// Nothing known: raw bytes.
    Plain,
    /// qcow2, version 2 or later.
    Qcow2,
    /// Something recognised that cannot be prepared, by its name.
    Foreign(&'static str),
}

impl Content {
    /// The format to decode it as, if it can be prepared.
    pub fn disk_format(self) -> Option<DiskFormat> {
        match self {
            Self::Gpt | Self::Mbr | Self::Iso | Self::Plain => Some(DiskFormat::Raw),
            Self::Qcow2 => Some(DiskFormat::Qcow2),
            Self::Foreign(_) => None,
        }
    }

    /// The format to decode it as, if it is what was declared.
    pub fn check(self, declared: Option<DiskFormat>) -> Result<DiskFormat, FormatRefused> {
        let Some(found) = self.disk_format() else {
            return Err(FormatRefused::Unsupported { content: self });
        };
        match declared {
            Some(declared) if declared != found => {
                Err(FormatRefused::Mismatch { declared, content: self })
            }
            Some(_) | None => Ok(found),
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gpt => "a raw disk with a GPT",
            Self::Mbr => "a raw disk with a boot sector",
            Self::Iso => "an ISO 9660 image (raw)",
            Self::Plain => "raw bytes of no known format",
            Self::Qcow2 => "a qcow2 image",
            Self::Foreign(name) => name,
        })
    }
}

/// A source whose content cannot or must not be prepared.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum FormatRefused {
    /// The declaration lies.
    #[error("disk_format `{declared}` was declared, the content is {content}")]
    Mismatch {
        /// What the user said.
        declared: DiskFormat,
        /// What it is.
        content: Content,
    },
    /// Recognised, but not a format that can be prepared.
    #[error("the content is {content}; raw and qcow2 images can be prepared")]
    Unsupported {
        /// What it is.
        content: Content,
    },
}

/// A mark of a format: bytes at a place.
struct Mark {
    offset_bytes: usize,
    bytes: &'static [u8],
    name: &'static str,
}

const fn mark(offset_bytes: usize, bytes: &'static [u8], name: &'static str) -> Mark {
    Mark { offset_bytes, bytes, name }
}

/// What is recognised to be refused by name. Preparing it as raw would put a container's bytes on
/// a disk and find out at boot.
const FOREIGN: [Mark; 19] = [
    mark(0, b"QFI\xfb\0\0\0\x01", "a qcow version 1 image"),
    mark(0, b"QED\0", "a QED image"),
    mark(0, b"KDMV", "a VMDK image"),
    mark(0, b"COWD", "a VMDK image (ESX sparse)"),
    mark(0, b"# Disk DescriptorFile", "a VMDK descriptor"),
    mark(0, b"vhdxfile", "a VHDX image"),
    mark(0, b"conectix", "a VHD image"),
    mark(0x40, b"\x7f\x10\xda\xbe", "a VDI image"),
    mark(0, b"LUKS\xba\xbe", "a LUKS-encrypted volume"),
    mark(0, b"WithoutFreeSpace", "a Parallels image"),
    mark(0, b"WithouFreSpacExt", "a Parallels image"),
    mark(0, b"\x1f\x8b", "gzip-compressed"),
    mark(0, b"\xfd7zXZ\0", "xz-compressed"),
    mark(0, b"\x28\xb5\x2f\xfd", "zstd-compressed"),
    mark(0, b"BZh", "bzip2-compressed"),
    mark(0, b"\x04\x22\x4d\x18", "lz4-compressed"),
    mark(0, b"PK\x03\x04", "a zip archive"),
    mark(257, b"ustar", "a tar archive"),
    mark(0, b"<!DOCTYPE", "an HTML page"),
];

/// Recognises a source by its first [`PROBE_BYTES`] (or all of it, if it is shorter).
pub fn probe(start: &[u8]) -> Content {
    let has = |offset_bytes: usize, bytes: &[u8]| {
        start.get(offset_bytes..).is_some_and(|rest| rest.starts_with(bytes))
    };
    if let Some(mark) = FOREIGN.iter().find(|mark| has(mark.offset_bytes, mark.bytes)) {
        return Content::Foreign(mark.name);
    }
    if has(0, b"QFI\xfb") {
        return Content::Qcow2;
    }
    if has(0x8001, b"CD001") {
        return Content::Iso;
    }
    // GPT headers are in the second sector, of 512 or of 4096 bytes.
    if has(512, b"EFI PART") || has(4096, b"EFI PART") {
        return Content::Gpt;
    }
    if has(510, &[0x55, 0xaa]) { Content::Mbr } else { Content::Plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(offset_bytes: usize, bytes: &[u8]) -> Vec<u8> {
        let mut start = vec![0; PROBE_BYTES];
        start[offset_bytes..offset_bytes + bytes.len()].copy_from_slice(bytes);
        start
    }

    #[test]
    fn every_format_is_recognised_by_its_mark_and_foreign_ones_are_refused_by_name() {
        for mark in &FOREIGN {
            let content = probe(&with(mark.offset_bytes, mark.bytes));
            assert_eq!(content, Content::Foreign(mark.name));
            let refused = content.check(None).unwrap_err().to_string();
            assert!(refused.contains(mark.name), "{refused}");
        }
        assert_eq!(probe(&with(0, b"QFI\xfb\0\0\0\x03")), Content::Qcow2);
        assert_eq!(probe(&with(0x8001, b"CD001")), Content::Iso);
        assert_eq!(probe(&with(512, b"EFI PART")), Content::Gpt);
        assert_eq!(probe(&with(4096, b"EFI PART")), Content::Gpt);
        assert_eq!(probe(&with(510, &[0x55, 0xaa])), Content::Mbr);
        assert_eq!(probe(&[0; 3]), Content::Plain);
        assert_eq!(probe(b""), Content::Plain);
    }

    #[test]
    fn a_declaration_must_be_true() {
        for content in [Content::Gpt, Content::Mbr, Content::Iso, Content::Plain] {
            assert_eq!(content.check(None), Ok(DiskFormat::Raw));
            assert_eq!(content.check(Some(DiskFormat::Raw)), Ok(DiskFormat::Raw));
            let declared = DiskFormat::Qcow2;
            assert_eq!(
                content.check(Some(declared)),
                Err(FormatRefused::Mismatch { declared, content })
            );
        }
        let refused = Content::Qcow2.check(Some(DiskFormat::Raw)).unwrap_err().to_string();
        assert!(refused.contains("`raw`") && refused.contains("qcow2"), "{refused}");
        assert_eq!("GPT".parse(), Ok(DiskFormat::Raw));
        assert!("vmdk".parse::<DiskFormat>().is_err());
    }
}
