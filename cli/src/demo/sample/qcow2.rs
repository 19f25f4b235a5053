//! A qcow2 file of a disk: version 3, no compression, only the clusters that hold something.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const CLUSTER_BITS: u32 = 16;
const CLUSTER_BYTES: u64 = 1 << CLUSTER_BITS;

/// Entries of 8 bytes in a table of one cluster.
const ENTRIES_PER_TABLE: u64 = CLUSTER_BYTES / 8;

/// References of 2 bytes in a refcount block of one cluster.
const REFERENCES_PER_BLOCK: u64 = CLUSTER_BYTES / 2;

/// This table or cluster is used once, so a writer may write in place.
const COPIED: u64 = 1 << 63;

const HEADER_BYTES: u32 = 104;

/// Writes the disk's content to a new file. Clusters in order: header, L1 table, L2 tables, data, refcount table,
/// refcount block.
///
/// # Errors
/// When a file cannot be read or written; `InvalidInput` when the disk is larger than one refcount block can count.
pub(super) fn write(disk: &File, disk_bytes: u64, path: &Path) -> io::Result<()> {
    let file = File::create_new(path)?;
    let l2_tables = disk_bytes.div_ceil(CLUSTER_BYTES * ENTRIES_PER_TABLE);
    let (l1_cluster, l2_cluster) = (1, 2);
    let mut next = l2_cluster + l2_tables;
    let mut l2 = vec![0_u64; usize::try_from(l2_tables * ENTRIES_PER_TABLE).unwrap_or_default()];
    let mut content = vec![0; CLUSTER_BYTES as usize];
    for (entry, offset) in l2.iter_mut().zip((0..disk_bytes).step_by(CLUSTER_BYTES as usize)) {
        disk.read_exact_at(&mut content, offset)?;
        if content.iter().any(|byte| *byte != 0) {
            file.write_all_at(&content, next * CLUSTER_BYTES)?;
            *entry = (next * CLUSTER_BYTES) | COPIED;
            next += 1;
        }
    }
    let l1: Vec<u64> =
        (0..l2_tables).map(|table| ((l2_cluster + table) * CLUSTER_BYTES) | COPIED).collect();
    file.write_all_at(&big_endian(&l1), l1_cluster * CLUSTER_BYTES)?;
    file.write_all_at(&big_endian(&l2), l2_cluster * CLUSTER_BYTES)?;

    let (refcount_table, refcount_block) = (next, next + 1);
    let used = refcount_block + 1;
    if used > REFERENCES_PER_BLOCK {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let blocks = big_endian(&[refcount_block * CLUSTER_BYTES]);
    file.write_all_at(&blocks, refcount_table * CLUSTER_BYTES)?;
    let references: Vec<u8> = (0..used).flat_map(|_| 1_u16.to_be_bytes()).collect();
    file.write_all_at(&references, refcount_block * CLUSTER_BYTES)?;
    file.set_len(used * CLUSTER_BYTES)?;
    let header = header(disk_bytes, l1.len() as u32, l1_cluster, refcount_table);
    file.write_all_at(&header, 0)
}

fn header(disk_bytes: u64, l1_entries: u32, l1_cluster: u64, refcount_table: u64) -> Vec<u8> {
    let mut header = b"QFI\xfb".to_vec();
    header.extend_from_slice(&3_u32.to_be_bytes()); // version
    header.extend_from_slice(&[0; 8 + 4]); // no backing file
    header.extend_from_slice(&CLUSTER_BITS.to_be_bytes());
    header.extend_from_slice(&disk_bytes.to_be_bytes());
    header.extend_from_slice(&[0; 4]); // no encryption
    header.extend_from_slice(&l1_entries.to_be_bytes());
    header.extend_from_slice(&(l1_cluster * CLUSTER_BYTES).to_be_bytes());
    header.extend_from_slice(&(refcount_table * CLUSTER_BYTES).to_be_bytes());
    header.extend_from_slice(&1_u32.to_be_bytes()); // refcount table, clusters
    header.extend_from_slice(&[0; 4 + 8]); // no snapshots
    header.extend_from_slice(&[0; 3 * 8]); // no incompatible, compatible or autoclear features
    header.extend_from_slice(&4_u32.to_be_bytes()); // references of 2^4 bits
    header.extend_from_slice(&HEADER_BYTES.to_be_bytes());
    header
}

fn big_endian(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}
