//! How the disk is divided for an image that is one file system, on the command line.

use bessemer_proto::v1::PartitionLayout;

/// Partitions beside the EFI system partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct PartitionArguments {
    /// `whole-disk` (default) or `partition`: the image is one file system, and the disk is divided for it
    #[arg(long, default_value = "", hide_default_value = true, help_heading = "Partitions")]
    pub(crate) image_type: String,
    /// Size of the root partition in GiB; all that the others leave when not given
    #[arg(long, default_value_t, hide_default_value = true, help_heading = "Partitions")]
    root_gb: u32,
    /// Size of a swap partition in MiB
    #[arg(long, default_value_t, hide_default_value = true, help_heading = "Partitions")]
    swap_mb: u32,
    /// Size in GiB of a partition for scratch data, labelled `ephemeral0`
    #[arg(long, default_value_t, hide_default_value = true, help_heading = "Partitions")]
    ephemeral_gb: u32,
    /// ext4 (default) or vfat
    #[arg(long, default_value = "", hide_default_value = true, help_heading = "Partitions")]
    ephemeral_format: String,
    /// Keep what an earlier deployment left on the partition for scratch data
    #[arg(long, help_heading = "Partitions")]
    preserve_ephemeral: bool,
}

impl PartitionArguments {
    /// Whether nothing was given.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The layout, where one was given.
    pub(crate) fn layout(&self) -> Option<PartitionLayout> {
        let layout = PartitionLayout {
            root_gb: self.root_gb,
            swap_mb: self.swap_mb,
            ephemeral_gb: self.ephemeral_gb,
            ephemeral_format: self.ephemeral_format.clone(),
            preserve_ephemeral: self.preserve_ephemeral,
        };
        (layout != PartitionLayout::default()).then_some(layout)
    }
}
