//! What a source image is, by its content and never by its name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::compression::Compression;

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
    /// VMware's format, of the kinds that are one sparse file.
    Vmdk,
    /// Microsoft's first format, fixed and dynamic. QEMU calls it `vpc`.
    Vhd,
    /// Microsoft's second format, fixed and dynamic.
    Vhdx,
    /// VirtualBox's format.
    Vdi,
}

impl DiskFormat {
    /// Every format.
    pub const ALL: [Self; 6] =
        [Self::Raw, Self::Qcow2, Self::Vmdk, Self::Vhd, Self::Vhdx, Self::Vdi];

    /// As Ironic and Glance call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vhd => "vhd",
            Self::Vhdx => "vhdx",
            Self::Vdi => "vdi",
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
#[error("disk format `{name}` is not one of raw, qcow2, vmdk, vhd, vhdx, vdi")]
pub struct UnknownDiskFormat {
    /// What was declared.
    pub name: String,
}

impl FromStr for DiskFormat {
    type Err = UnknownDiskFormat;

    fn from_str(name: &str) -> Result<Self, UnknownDiskFormat> {
        let lower = name.to_ascii_lowercase();
        let known = Self::ALL.into_iter().find(|format| format.name() == lower);
        match lower.as_str() {
            // Ironic's inspector calls partitioned raw disks `gpt` and users copy that.
            "gpt" | "mbr" | "iso" => Ok(Self::Raw),
            // QEMU's name.
            "vpc" => Ok(Self::Vhd),
            _ => known.ok_or_else(|| UnknownDiskFormat { name: name.to_owned() }),
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
    /// A disk image of a format that is not raw. A fixed VHD cannot be told from a raw disk by its
    /// beginning and is none of these.
    Image(DiskFormat),
    /// Something compressed as a whole.
    Compressed(Compression),
    /// Something recognised that cannot be prepared, by its name.
    Foreign(&'static str),
}

impl Content {
    /// The format to decode it as, if it is what was declared.
    pub fn check(self, declared: Option<DiskFormat>) -> Result<DiskFormat, FormatRefused> {
        let found = match self {
            // A fixed VHD has its mark at its end, where the decoder looks for it.
            Self::Gpt | Self::Mbr | Self::Iso | Self::Plain => match declared {
                Some(DiskFormat::Vhd) => DiskFormat::Vhd,
                Some(_) | None => DiskFormat::Raw,
            },
            Self::Image(format) => format,
            Self::Compressed(_) | Self::Foreign(_) => {
                return Err(FormatRefused::Unsupported { content: self });
            }
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
        match self {
            Self::Gpt => f.write_str("a raw disk with a GPT"),
            Self::Mbr => f.write_str("a raw disk with a boot sector"),
            Self::Iso => f.write_str("an ISO 9660 image (raw)"),
            Self::Plain => f.write_str("raw bytes of no known format"),
            Self::Image(format) => write!(f, "a {format} image"),
            Self::Compressed(compression) => write!(f, "{compression}-compressed"),
            Self::Foreign(name) => f.write_str(name),
        }
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
    #[error(
        "the content is {content}; raw, qcow2, vmdk, vhd, vhdx and vdi images can be prepared, and \
         those compressed once by gzip, xz, zstd or bzip2"
    )]
    Unsupported {
        /// What it is.
        content: Content,
    },
}

/// A mark of a format: bytes at a place.
struct Mark {
    offset_bytes: usize,
    bytes: &'static [u8],
    content: Content,
}

const fn mark(offset_bytes: usize, bytes: &'static [u8], content: Content) -> Mark {
    Mark { offset_bytes, bytes, content }
}

const fn foreign(offset_bytes: usize, bytes: &'static [u8], name: &'static str) -> Mark {
    mark(offset_bytes, bytes, Content::Foreign(name))
}

/// What is recognised; of two marks that fit, the first counts. Foreign ones are refused by name:
/// preparing them as raw would put a container's bytes on a disk and find out at boot.
const MARKS: [Mark; 22] = [
    foreign(0, b"QFI\xfb\0\0\0\x01", "a qcow version 1 image"),
    mark(0, b"QFI\xfb", Content::Image(DiskFormat::Qcow2)),
    mark(0, b"KDMV", Content::Image(DiskFormat::Vmdk)),
    mark(0, b"vhdxfile", Content::Image(DiskFormat::Vhdx)),
    mark(0, b"conectix", Content::Image(DiskFormat::Vhd)),
    mark(0x40, b"\x7f\x10\xda\xbe", Content::Image(DiskFormat::Vdi)),
    mark(0, b"\x1f\x8b", Content::Compressed(Compression::Gzip)),
    mark(0, b"\xfd7zXZ\0", Content::Compressed(Compression::Xz)),
    mark(0, b"\x28\xb5\x2f\xfd", Content::Compressed(Compression::Zstd)),
    mark(0, b"BZh", Content::Compressed(Compression::Bzip2)),
    foreign(0, b"QED\0", "a QED image"),
    foreign(0, b"COWD", "a VMDK image (ESX sparse)"),
    foreign(0, b"# Disk DescriptorFile", "a VMDK descriptor, whose data is in other files"),
    foreign(0, b"LUKS\xba\xbe", "a LUKS-encrypted volume"),
    foreign(0, b"WithoutFreeSpace", "a Parallels image"),
    foreign(0, b"WithouFreSpacExt", "a Parallels image"),
    foreign(0, b"\x04\x22\x4d\x18", "lz4-compressed"),
    foreign(0, b"PK\x03\x04", "a zip archive"),
    foreign(257, b"ustar", "a tar archive"),
    foreign(0, b"<!DOCTYPE", "an HTML page"),
    foreign(0, b"<!doctype", "an HTML page"),
    foreign(0, b"<html", "an HTML page"),
];

/// The sector size that a GPT disk is laid out for: where its header is. A disk with sectors of
/// another size cannot be booted from it, nor its partitions be found. Nothing for other disks.
pub fn gpt_sector_bytes(start: &[u8]) -> Option<u32> {
    // The sector behind the protective MBR, of 512 or of 4096 bytes.
    [512, 4096].into_iter().find(|&sector_bytes| {
        start.get(sector_bytes as usize..).is_some_and(|rest| rest.starts_with(b"EFI PART"))
    })
}

/// Recognises a source by its first [`PROBE_BYTES`] (or all of it, if it is shorter).
pub fn probe(start: &[u8]) -> Content {
    let has = |offset_bytes: usize, bytes: &[u8]| {
        start.get(offset_bytes..).is_some_and(|rest| rest.starts_with(bytes))
    };
    if let Some(mark) = MARKS.iter().find(|mark| has(mark.offset_bytes, mark.bytes)) {
        return mark.content;
    }
    if has(0x8001, b"CD001") {
        return Content::Iso;
    }
    if gpt_sector_bytes(start).is_some() {
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
    fn every_mark_is_recognised_and_foreign_ones_are_refused_by_name() {
        for mark in &MARKS {
            let content = probe(&with(mark.offset_bytes, mark.bytes));
            assert_eq!(content, mark.content);
            if let Content::Foreign(name) = content {
                let refused = content.check(None).unwrap_err().to_string();
                assert!(refused.contains(name), "{refused}");
            }
        }
        assert_eq!(probe(&with(0x8001, b"CD001")), Content::Iso);
        assert_eq!(probe(&with(512, b"EFI PART")), Content::Gpt);
        assert_eq!(probe(&with(4096, b"EFI PART")), Content::Gpt);
        let sector_bytes = |start: &[u8]| gpt_sector_bytes(start);
        assert_eq!(sector_bytes(&with(512, b"EFI PART")), Some(512));
        assert_eq!(sector_bytes(&with(4096, b"EFI PART")), Some(4096));
        assert_eq!(sector_bytes(&with(510, &[0x55, 0xaa])), None);
        assert_eq!(probe(&with(510, &[0x55, 0xaa])), Content::Mbr);
        assert_eq!(probe(&[0; 3]), Content::Plain);
        assert_eq!(probe(b""), Content::Plain);
    }

    #[test]
    fn a_declaration_must_be_true() {
        let raw = [Content::Gpt, Content::Mbr, Content::Iso, Content::Plain];
        let images = DiskFormat::ALL.map(|format| (Content::Image(format), format));
        let contents = raw.map(|content| (content, DiskFormat::Raw)).into_iter();
        for (content, found) in contents.chain(images.into_iter().skip(1)) {
            assert_eq!(content.check(None), Ok(found));
            for declared in DiskFormat::ALL {
                let may_be_fixed_vhd = found == DiskFormat::Raw && declared == DiskFormat::Vhd;
                let expected = match declared {
                    declared if declared == found || may_be_fixed_vhd => Ok(declared),
                    declared => Err(FormatRefused::Mismatch { declared, content }),
                };
                assert_eq!(content.check(Some(declared)), expected, "{content} as {declared}");
            }
        }
        let qcow2 = Content::Image(DiskFormat::Qcow2);
        let refused = qcow2.check(Some(DiskFormat::Raw)).unwrap_err().to_string();
        assert!(refused.contains("`raw`") && refused.contains("qcow2"), "{refused}");
    }

    #[test]
    fn formats_have_the_names_that_users_know() {
        for format in DiskFormat::ALL {
            assert_eq!(format.name().to_ascii_uppercase().parse(), Ok(format));
        }
        assert_eq!(("GPT".parse(), "vpc".parse()), (Ok(DiskFormat::Raw), Ok(DiskFormat::Vhd)));
        let unknown = "qed".parse::<DiskFormat>().unwrap_err().to_string();
        assert!(DiskFormat::ALL.iter().all(|format| unknown.contains(format.name())), "{unknown}");
    }
}
