//! A FAT16 file system with a few files in its root directory, written once and never changed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Everything is counted in sectors of this size.
const SECTOR_BYTES: u64 = 512;

/// 4 KiB: a volume of 256 MiB then has fewer than the 65,525 clusters that FAT16 can have.
const SECTORS_PER_CLUSTER: u64 = 8;
const CLUSTER_BYTES: u64 = SECTORS_PER_CLUSTER * SECTOR_BYTES;

/// Boot sector and padding, so that data clusters lie on 4 KiB.
const RESERVED_SECTORS: u64 = 8;

const ROOT_ENTRIES: u64 = 512;
const ENTRY_BYTES: u64 = 32;
const ROOT_SECTORS: u64 = ROOT_ENTRIES * ENTRY_BYTES / SECTOR_BYTES;

/// First cluster that holds data; the two before it are marks.
const FIRST_CLUSTER: u64 = 2;

/// Hard disk.
const MEDIA: u8 = 0xf8;

/// Last cluster of a file.
const END_OF_CHAIN: u16 = 0xffff;

/// 2026-01-01 and midnight: the image is the same every time.
const DATE: u16 = ((2026 - 1980) << 9) | (1 << 5) | 1;

/// A file of the root directory.
#[derive(Debug)]
pub(super) struct FatFile<'a> {
    /// Eight characters and three, padded with blanks.
    pub name: [u8; 11],
    /// All of it.
    pub content: &'a [u8],
}

/// How a volume is divided.
#[derive(Debug)]
struct Layout {
    sectors: u64,
    fat_sectors: u64,
}

impl Layout {
    fn new(size_bytes: u64) -> Self {
        let sectors = size_bytes / SECTOR_BYTES;
        // A little too long when rounded up: the clusters that the tables take are counted too.
        let clusters = (sectors - RESERVED_SECTORS - ROOT_SECTORS) / SECTORS_PER_CLUSTER;
        let fat_bytes = (clusters + FIRST_CLUSTER) * 2;
        // A multiple of a cluster for each of the two tables keeps the data on 4 KiB.
        Self { sectors, fat_sectors: fat_bytes.div_ceil(CLUSTER_BYTES) * SECTORS_PER_CLUSTER }
    }

    fn root_offset_bytes(&self) -> u64 {
        (RESERVED_SECTORS + 2 * self.fat_sectors) * SECTOR_BYTES
    }

    fn cluster_offset_bytes(&self, cluster: u64) -> u64 {
        let data = self.root_offset_bytes() + ROOT_SECTORS * SECTOR_BYTES;
        data + (cluster - FIRST_CLUSTER) * CLUSTER_BYTES
    }
}

/// Makes a file system of `size_bytes` at `offset_bytes` of a disk that is zero there.
///
/// # Errors
/// When the disk cannot be written, or the files do not fit.
pub(super) fn format(
    disk: &File,
    offset_bytes: u64,
    size_bytes: u64,
    files: &[FatFile<'_>],
) -> io::Result<()> {
    let layout = Layout::new(size_bytes);
    let mut fat: Vec<u16> = vec![0xff00 | u16::from(MEDIA), END_OF_CHAIN];
    let mut root = Vec::new();
    for file in files {
        let first = fat.len() as u64;
        let clusters = (file.content.len() as u64).div_ceil(CLUSTER_BYTES).max(1);
        if layout.cluster_offset_bytes(first + clusters) > size_bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        // FAT16 has no cluster beyond u16, which the check above keeps.
        fat.extend((first + 1..first + clusters).map(|next| next as u16));
        fat.push(END_OF_CHAIN);
        root.extend_from_slice(&entry(file, first as u16));
        let at = offset_bytes + layout.cluster_offset_bytes(first);
        disk.write_all_at(file.content, at)?;
    }
    let fat: Vec<u8> = fat.iter().flat_map(|cluster| cluster.to_le_bytes()).collect();
    for copy in 0..2 {
        let sector = RESERVED_SECTORS + copy * layout.fat_sectors;
        disk.write_all_at(&fat, offset_bytes + sector * SECTOR_BYTES)?;
    }
    disk.write_all_at(&root, offset_bytes + layout.root_offset_bytes())?;
    disk.write_all_at(&boot_sector(&layout, offset_bytes), offset_bytes)
}

fn boot_sector(layout: &Layout, offset_bytes: u64) -> [u8; SECTOR_BYTES as usize] {
    let mut sector = [0; SECTOR_BYTES as usize];
    let mut put = |at: usize, bytes: &[u8]| sector[at..at + bytes.len()].copy_from_slice(bytes);
    // Jump over the parameters, as every reader expects; nobody boots it.
    put(0, &[0xeb, 0x3c, 0x90]);
    put(3, b"BESSEMER");
    put(11, &(SECTOR_BYTES as u16).to_le_bytes());
    put(13, &[SECTORS_PER_CLUSTER as u8]);
    put(14, &(RESERVED_SECTORS as u16).to_le_bytes());
    put(16, &[2]);
    put(17, &(ROOT_ENTRIES as u16).to_le_bytes());
    put(21, &[MEDIA]);
    put(22, &(layout.fat_sectors as u16).to_le_bytes());
    put(28, &((offset_bytes / SECTOR_BYTES) as u32).to_le_bytes());
    put(32, &(layout.sectors as u32).to_le_bytes());
    put(36, &[0x80, 0, 0x29]);
    put(39, &0x2605_2026_u32.to_le_bytes());
    put(43, b"NO NAME    ");
    put(54, b"FAT16   ");
    put(510, &[0x55, 0xaa]);
    sector
}

fn entry(file: &FatFile<'_>, first_cluster: u16) -> [u8; ENTRY_BYTES as usize] {
    let mut entry = [0; ENTRY_BYTES as usize];
    entry[..11].copy_from_slice(&file.name);
    for date in [16, 18, 24] {
        entry[date..date + 2].copy_from_slice(&DATE.to_le_bytes());
    }
    entry[26..28].copy_from_slice(&first_cluster.to_le_bytes());
    entry[28..].copy_from_slice(&(file.content.len() as u32).to_le_bytes());
    entry
}
