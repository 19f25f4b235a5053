//! Where partitions go on a disk that is divided for an image of one file system.
//!
//! It follows from the disk's size and the layout asked for alone: whoever goes on with a deployment finds the root
//! partition at the same place, long before there is a table that says so.

use bessemer_configdrive::MAX_SIZE_BYTES as CONFIG_DRIVE_BYTES;
use bessemer_domain::node::PartitionLayout;

use super::{Extent, PARTITION_ALIGNMENT_BYTES};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Size of the EFI system partition, as Ironic has it.
const ESP_BYTES: u64 = 550 * MIB;

/// Where the partitions are, in the order of the table. Root is the last one, so that it can grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) esp: Extent,
    pub(crate) ephemeral: Option<Extent>,
    pub(crate) swap: Option<Extent>,
    pub(crate) root: Extent,
}

/// A layout that a disk has no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the partitions need {needed_bytes} bytes")]
pub(crate) struct NoRoom {
    pub(crate) needed_bytes: u64,
}

impl Layout {
    /// Places the partitions on a disk of `disk_bytes`. Behind root there is always room for a config drive.
    pub(crate) fn plan(disk_bytes: u64, asked: &PartitionLayout) -> Result<Self, NoRoom> {
        let align = PARTITION_ALIGNMENT_BYTES;
        // The first and the last unit hold the two copies of the table.
        let end = (disk_bytes / align * align).saturating_sub(align + CONFIG_DRIVE_BYTES);
        let mut next = align;
        let mut place = |size_bytes: u64| {
            let extent = Extent { offset_bytes: next, size_bytes };
            next += size_bytes;
            extent
        };
        let esp = place(ESP_BYTES);
        let ephemeral =
            asked.ephemeral.as_ref().map(|ephemeral| place(u64::from(ephemeral.size_gib) * GIB));
        let swap = asked.swap_mib.map(|mebibytes| place(u64::from(mebibytes) * MIB));
        let root_bytes = asked.root_gib.map_or_else(
            || end.saturating_sub(next).max(align),
            |gibibytes| u64::from(gibibytes) * GIB,
        );
        let root = Extent { offset_bytes: next, size_bytes: root_bytes };
        if root.end_bytes() > end {
            let needed_bytes = root.end_bytes() + align + CONFIG_DRIVE_BYTES;
            return Err(NoRoom { needed_bytes });
        }
        Ok(Self { esp, ephemeral, swap, root })
    }
}

#[cfg(test)]
mod tests {
    use bessemer_domain::node::{Ephemeral, EphemeralFormat};

    use super::*;

    fn mebibytes(extent: Extent) -> (u64, u64) {
        assert_eq!((extent.offset_bytes % MIB, extent.size_bytes % MIB), (0, 0));
        (extent.offset_bytes / MIB, extent.size_bytes / MIB)
    }

    #[test]
    fn root_is_last_and_takes_what_is_left_but_for_a_config_drive() {
        let whole = PartitionLayout::default();
        let layout = Layout::plan(4 * GIB + 511, &whole).unwrap();
        assert_eq!(mebibytes(layout.esp), (1, 550));
        assert_eq!(mebibytes(layout.root), (551, 4096 - 1 - 64 - 551));
        assert_eq!((layout.ephemeral, layout.swap), (None, None));

        let ephemeral = Ephemeral { size_gib: 1, format: EphemeralFormat::Ext4, preserve: false };
        let asked =
            PartitionLayout { root_gib: Some(2), swap_mib: Some(64), ephemeral: Some(ephemeral) };
        let layout = Layout::plan(4 * GIB, &asked).unwrap();
        assert_eq!(layout.ephemeral.map(mebibytes), Some((551, 1024)));
        assert_eq!(layout.swap.map(mebibytes), Some((1575, 64)));
        assert_eq!(mebibytes(layout.root), (1639, 2048));
    }

    #[test]
    fn what_does_not_fit_says_how_much_it_needs() {
        let asked = PartitionLayout { root_gib: Some(3), ..PartitionLayout::default() };
        let needed_bytes = (551 + 3072 + 1 + 64) * MIB;
        assert_eq!(Layout::plan(needed_bytes - 1, &asked), Err(NoRoom { needed_bytes }));
        assert!(Layout::plan(needed_bytes, &asked).is_ok());
        for disk_bytes in [0, MIB, 551 * MIB] {
            assert!(Layout::plan(disk_bytes, &PartitionLayout::default()).is_err());
        }
        let most = PartitionLayout { root_gib: Some(u32::MAX), ..PartitionLayout::default() };
        assert!(Layout::plan(u64::MAX, &most).is_ok());
    }
}
