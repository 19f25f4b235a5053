//! The guest's view of an image, whatever its format.

use std::fmt;

use super::layout::{Extent, read};
use super::unpack::{Packed, Unpacker};
use super::{
    DiskError, DiskFault, Layout, Origin, check_within, flat, qcow2, vdi, vhd, vhdx, vmdk,
};
use crate::ReadAt;
use crate::format::DiskFormat;
use crate::pack::{RawBytes, RawSource};

/// A disk image over a source, read as the raw disk that its guest sees.
pub struct Disk<S> {
    source: S,
    format: DiskFormat,
    layout: Box<dyn Layout>,
}

impl<S: ReadAt> Disk<S> {
    /// Opens an image whose virtual size is at most `max_virtual_bytes`. Refuses images that are
    /// not self-contained, see the module.
    pub fn open(format: DiskFormat, source: S, max_virtual_bytes: u64) -> Result<Self, DiskError> {
        let layout = match format {
            DiskFormat::Raw => Ok(flat::whole(&source)),
            DiskFormat::Qcow2 => qcow2::open(&source),
            DiskFormat::Vmdk => vmdk::open(&source),
            DiskFormat::Vhd => vhd::open(&source),
            DiskFormat::Vhdx => vhdx::open(&source),
            DiskFormat::Vdi => vdi::open(&source),
        }
        .map_err(|fault| fault.of(format))?;
        let virtual_bytes = layout.raw_bytes();
        if virtual_bytes > max_virtual_bytes {
            let fault = DiskFault::TooLarge { virtual_bytes, limit_bytes: max_virtual_bytes };
            return Err(fault.of(format));
        }
        Ok(Self { source, format, layout })
    }

    /// The source.
    pub fn into_source(self) -> S {
        self.source
    }

    /// Bytes of the guest's disk.
    pub fn virtual_bytes(&self) -> u64 {
        self.layout.raw_bytes()
    }

    /// Where `bytes` of the guest from `guest_offset` on come from, neighbours joined.
    fn extents(&self, guest_offset: u64, bytes: u64) -> Result<Vec<Extent>, DiskFault> {
        let mut extents: Vec<Extent> = Vec::new();
        let (mut offset, end) = (guest_offset, guest_offset + bytes);
        while offset < end {
            let extent = self.layout.locate(&self.source, offset, end - offset)?;
            offset += extent.bytes;
            if !extents.last_mut().is_some_and(|last| last.join(extent)) {
                extents.push(extent);
            }
        }
        Ok(extents)
    }

    fn read_extents(&self, offset_bytes: u64, into: &mut [u8]) -> Result<RawBytes, DiskFault> {
        let extents = self.extents(offset_bytes, into.len() as u64)?;
        if extents.iter().all(|extent| extent.origin == Origin::Zero) {
            return Ok(RawBytes::Zero);
        }
        let mut unpacking = Unpacking::default();
        let mut guest_offset = offset_bytes;
        let mut rest = into;
        for Extent { origin, bytes } in extents {
            // The extents make up what is read.
            let (part, behind) = rest.split_at_mut(bytes as usize);
            match origin {
                Origin::Zero => part.fill(0),
                Origin::Data { offset_bytes } => {
                    read(&self.source, "data", offset_bytes, part)?;
                }
                Origin::Packed(packed) => {
                    unpacking.read(&self.source, guest_offset, packed, part)?;
                }
            }
            guest_offset += bytes;
            rest = behind;
        }
        Ok(RawBytes::Data)
    }
}

/// What one read needs for compressed blocks.
#[derive(Default)]
struct Unpacking {
    unpacker: Option<Unpacker>,
    stored: Vec<u8>,
    block: Vec<u8>,
}

impl Unpacking {
    fn read(
        &mut self,
        source: &dyn ReadAt,
        guest_offset_bytes: u64,
        packed: Packed,
        into: &mut [u8],
    ) -> Result<(), DiskFault> {
        let Packed { codec, block_bytes, offset_bytes, stored_bytes, start } = packed;
        const WHAT: &str = "compressed block";
        // qcow2 counts sectors, which the last block of a file need not fill.
        let source_bytes = source.source_bytes();
        let present_bytes = stored_bytes.min(source_bytes.saturating_sub(offset_bytes));
        let failed = |message| {
            let whole = check_within(WHAT, offset_bytes, stored_bytes, source_bytes);
            whole.err().unwrap_or(DiskFault::Unpack { guest_offset_bytes, message })
        };
        // The layout bounds it by the block's length.
        self.stored.resize(present_bytes as usize, 0);
        read(source, WHAT, offset_bytes, &mut self.stored)?;
        let unpacker = match &mut self.unpacker {
            Some(unpacker) => unpacker,
            none => none.insert(Unpacker::new(codec).map_err(failed)?),
        };
        let short = |unpacked_bytes: usize, needed_bytes: usize| match unpacked_bytes {
            enough if enough >= needed_bytes => Ok(()),
            _ => Err(failed(format!("{unpacked_bytes} bytes where it has {needed_bytes}"))),
        };
        if into.len() == block_bytes {
            let unpacked_bytes = unpacker.unpack(&self.stored, into).map_err(failed)?;
            return short(unpacked_bytes, block_bytes);
        }
        self.block.resize(block_bytes, 0);
        let unpacked_bytes = unpacker.unpack(&self.stored, &mut self.block).map_err(failed)?;
        let end = start + into.len();
        short(unpacked_bytes, end)?;
        into.copy_from_slice(&self.block[start..end]);
        Ok(())
    }
}

impl<S: ReadAt> RawSource for Disk<S> {
    type Error = DiskError;

    fn raw_bytes(&self) -> Option<u64> {
        Some(self.virtual_bytes())
    }

    fn read(&self, offset_bytes: u64, into: &mut [u8]) -> Result<RawBytes, DiskError> {
        self.read_extents(offset_bytes, into).map_err(|fault| fault.of(self.format))
    }
}

impl<S> fmt::Debug for Disk<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("format", &self.format).finish_non_exhaustive()
    }
}
