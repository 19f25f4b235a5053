//! Where an image goes: a whole disk, or the root partition of a disk that is divided for it.

use std::sync::Arc;

use bessemer_domain::node::{EphemeralFormat, PartitionLayout};
use bessemer_image::format::{Content, gpt_sector_bytes, probe};
use bessemer_image::pack::CHUNK_BYTES;
use uuid::Uuid;

use crate::boot_loader;
use crate::disk::OpenDisk;
use crate::filesystem;
use crate::partition::gpt::{Gpt, NoFreeEntry, PartitionType};
use crate::partition::layout::Layout;
use crate::partition::mbr::Mbr;
use crate::partition::{Extent, Table};
use crate::task::TaskError;

/// Label by which systems know the partition for scratch data: cloud-init's and Ironic's.
const EPHEMERAL_LABEL: &str = "ephemeral0";

/// What nearly all disks have, and nearly all images are made for.
const USUAL_SECTOR_BYTES: u64 = 512;

/// The disk, and the part of it that gets the image.
#[derive(Debug)]
pub(super) struct Target {
    disk: Arc<OpenDisk>,
    place: Arc<OpenDisk>,
    division: Option<Division>,
}

#[derive(Debug)]
struct Division {
    layout: Layout,
    /// What the partition for scratch data becomes; none leaves it as it is.
    ephemeral: Option<EphemeralFormat>,
}

impl Target {
    /// All of the disk: the image brings its own partitions.
    pub(super) fn whole(disk: OpenDisk) -> Self {
        let disk = Arc::new(disk);
        Self { place: Arc::clone(&disk), disk, division: None }
    }

    /// The root partition of a disk with this layout. With `resume`, an earlier attempt may have removed the table by
    /// which a partition to be preserved is known.
    pub(super) fn divided(
        disk: OpenDisk,
        asked: &PartitionLayout,
        resume: bool,
    ) -> Result<Self, TaskError> {
        let layout = Layout::plan(disk.size_bytes(), asked).map_err(|no_room| {
            TaskError::PartitionsLargerThanDisk {
                needed_bytes: no_room.needed_bytes,
                disk: disk.name(),
                disk_bytes: disk.size_bytes(),
            }
        })?;
        let preserved = asked.ephemeral.as_ref().is_some_and(|ephemeral| ephemeral.preserve);
        if let Some(extent) = layout.ephemeral.filter(|_| preserved) {
            check_ephemeral(&disk, extent, resume)?;
        }
        let ephemeral = asked.ephemeral.as_ref().filter(|_| !preserved);
        let place = Arc::new(disk.part(layout.root.range())?);
        let division = Division { layout, ephemeral: ephemeral.map(|it| it.format) };
        Ok(Self { disk: Arc::new(disk), place, division: Some(division) })
    }

    /// The disk or partition that gets the image's bytes.
    pub(super) fn place(&self) -> &Arc<OpenDisk> {
        &self.place
    }

    pub(super) fn device(&self) -> String {
        self.disk.name()
    }

    /// Whether the image's beginning has to be looked at before anything is touched.
    pub(super) fn wants_start(&self) -> bool {
        self.division.is_some() || self.disk.sector_bytes() != USUAL_SECTOR_BYTES
    }

    /// Refuses an image that is empty or larger than its place.
    pub(super) fn check_size(&self, image_bytes: u64) -> Result<(), TaskError> {
        if image_bytes == 0 {
            return Err(TaskError::invalid("image size", "0", "leaves nothing to write"));
        }
        let place_bytes = self.place.size_bytes();
        if image_bytes > place_bytes {
            let kind = if self.division.is_some() { "the root partition of disk" } else { "disk" };
            let place = format!("{kind} {}", self.disk.name());
            return Err(TaskError::ImageLargerThanDisk { image_bytes, place, place_bytes });
        }
        Ok(())
    }

    /// Refuses an image that begins with `start` if a machine would not find in it what it needs.
    pub(super) fn check_start(&self, start: &[u8]) -> Result<(), TaskError> {
        if self.division.is_some() {
            return check_is_file_system(start, self.disk.sector_bytes());
        }
        match gpt_sector_bytes(start) {
            Some(image_sector_bytes)
                if u64::from(image_sector_bytes) != self.disk.sector_bytes() =>
            {
                let (disk, disk_sector_bytes) = (self.disk.name(), self.disk.sector_bytes());
                Err(TaskError::SectorSize { image_sector_bytes, disk, disk_sector_bytes })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Removes old partition tables, at both ends of the disk and where the image will end: an earlier, larger disk
    /// image may have left a backup table there. The one at the start goes first, for good: cut off after that, the
    /// disk does not boot what it no longer holds whole.
    pub(super) fn wipe_tables(&self, image_bytes: u64) -> Result<(), TaskError> {
        let disk = &self.disk;
        let chunk = CHUNK_BYTES as u64;
        let image_end = if self.division.is_some() { 0 } else { image_bytes };
        for end in [chunk, image_end, disk.size_bytes()] {
            let end = end.min(disk.size_bytes());
            let start = end.saturating_sub(chunk);
            disk.zero(start, end - start)?;
            disk.flush()?;
        }
        Ok(())
    }

    /// Makes the disk one that a machine boots, now that the image is on it. Answers the root file system's UUID where
    /// there is one partition that is root.
    pub(super) fn settle(&self) -> Result<Option<Uuid>, TaskError> {
        let root_uuid = match &self.division {
            Some(division) => self.divide(division)?,
            None => {
                self.settle_whole()?;
                None
            }
        };
        self.disk.reread_partition_table();
        Ok(root_uuid)
    }

    /// Makes the tables of the image those of the disk: the backup GPT is moved to the disk's end.
    fn settle_whole(&self) -> Result<(), TaskError> {
        let disk = &self.disk;
        match Gpt::read(disk)? {
            Some(mut gpt) if !gpt.fills(disk) => {
                gpt.stretch_to(disk);
                Ok(gpt.write(disk)?)
            }
            Some(_) => Ok(()),
            // What is between an MBR and the first partition is nobody's, and may look like anything.
            None if Mbr::read(disk)?.is_some() => Ok(()),
            None => match filesystem::probe(disk)? {
                Some(found) => Err(TaskError::ImageType {
                    content: format!("a file system ({}) without a partition table", found.name),
                    image_type: "partition",
                }),
                None => Ok(()),
            },
        }
    }

    /// Makes the file systems beside root, and the table when all of them are on the disk.
    fn divide(&self, division: &Division) -> Result<Option<Uuid>, TaskError> {
        let (disk, layout) = (&self.disk, &division.layout);
        if let Some(swap) = layout.swap {
            filesystem::swap::make(&disk.part(swap.range())?)?;
        }
        if let (Some(extent), Some(format)) = (layout.ephemeral, division.ephemeral) {
            let part = disk.part(extent.range())?;
            match format {
                EphemeralFormat::Ext4 => filesystem::ext4::make(&part, EPHEMERAL_LABEL)?,
                EphemeralFormat::Vfat => filesystem::fat::make(&part, EPHEMERAL_LABEL)?,
            }
        }
        let root = disk.part(layout.root.range())?;
        let root_uuid = filesystem::probe(&root)?.map(|found| found.uuid);
        boot_loader::install(disk.part(layout.esp.range())?, root)?;
        disk.flush()?;
        let table = table(disk, layout)
            .map_err(|full| TaskError::Internal { message: full.to_string() })?;
        table.write(disk)?;
        Ok(root_uuid)
    }
}

fn table(disk: &OpenDisk, layout: &Layout) -> Result<Gpt, NoFreeEntry> {
    let mut table = Gpt::new(disk, Uuid::new_v4());
    table.add_of_type(PartitionType::EfiSystem, "esp", layout.esp)?;
    if let Some(ephemeral) = layout.ephemeral {
        table.add(EPHEMERAL_LABEL, ephemeral)?;
    }
    if let Some(swap) = layout.swap {
        table.add_of_type(PartitionType::LinuxSwap, "swap", swap)?;
    }
    table.add("root", layout.root)?;
    Ok(table)
}

/// Refuses to preserve what is not there: the disk has to have the partition at the same place.
fn check_ephemeral(disk: &OpenDisk, extent: Extent, resume: bool) -> Result<(), TaskError> {
    let is_there = match Table::read(disk)? {
        Some(table) => table.partitions().contains(&extent),
        None => resume,
    };
    if is_there {
        return Ok(());
    }
    Err(TaskError::NoEphemeral {
        disk: disk.name(),
        offset_bytes: extent.offset_bytes,
        size_bytes: extent.size_bytes,
    })
}

/// Refuses what has partitions of its own: it would be a disk within a partition.
fn check_is_file_system(start: &[u8], sector_bytes: u64) -> Result<(), TaskError> {
    let content = probe(start);
    let has_partitions = match content {
        Content::Gpt | Content::Iso => true,
        // A boot sector alone is that of a file system.
        Content::Mbr => Mbr::parse(start, sector_bytes, u64::MAX).is_some(),
        Content::Plain | Content::Image(_) | Content::Compressed(_) | Content::Foreign(_) => false,
    };
    if has_partitions {
        let content = content.to_string();
        return Err(TaskError::ImageType { content, image_type: "whole-disk" });
    }
    Ok(())
}
