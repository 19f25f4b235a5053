//! Damaged images: whatever stands in the tables, reading ends, with bytes or an error.

use std::fs;
use std::sync::LazyLock;

use bessemer_image::disk::Disk;
use bessemer_image::format::DiskFormat;
use bessemer_image::pack::RawSource;
use proptest::prelude::*;

use crate::sample::{LIMIT_BYTES, MIB, Sample};

/// How images are made whose every reader is tried: QEMU's name of the format, and options.
const KINDS: [(&str, &[&str]); 10] = [
    ("qcow2", &["-o", "cluster_size=4k"]),
    ("qcow2", &["-c"]),
    ("qcow2", &["-c", "-o", "compression_type=zstd,cluster_size=512"]),
    ("qcow2", &["-o", "extended_l2=on"]),
    ("vmdk", &["-o", "subformat=monolithicSparse"]),
    ("vmdk", &["-o", "subformat=streamOptimized"]),
    ("vpc", &["-o", "subformat=dynamic"]),
    ("vpc", &["-o", "subformat=fixed"]),
    ("vhdx", &["-o", "block_size=1M"]),
    ("vdi", &[]),
];

static IMAGES: LazyLock<Vec<(DiskFormat, Vec<u8>)>> = LazyLock::new(|| {
    let disk = Sample::new(MIB);
    let image = |(format, options): (&str, &[&str])| {
        (format.parse().unwrap(), fs::read(disk.convert(format, options)).unwrap())
    };
    KINDS.map(image).to_vec()
});

fn read(format: DiskFormat, image: &[u8]) {
    if let Ok(disk) = Disk::open(format, image, 64 << 20) {
        let mut piece = vec![0; MIB];
        for offset in (0..disk.virtual_bytes()).step_by(MIB).take(4) {
            let bytes = (disk.virtual_bytes() - offset).min(MIB as u64) as usize;
            let _ = disk.read(offset, &mut piece[..bytes]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn damaged_images_never_panic(
        kind in 0..KINDS.len(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        header in prop::collection::vec((4_usize..0x600, any::<u8>()), 0..3),
        cut in prop::option::weighted(0.3, any::<prop::sample::Index>()),
    ) {
        let (format, mut image) = IMAGES[kind].clone();
        for (at, byte) in damage {
            let at = at.index(image.len());
            image[at] = byte;
        }
        for (at, byte) in header {
            image[at] = byte;
        }
        if let Some(cut) = cut {
            image.truncate(cut.index(image.len()));
        }
        read(format, &image);
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        format in prop::sample::select(DiskFormat::ALL.to_vec()),
        mark in prop::sample::select(vec![
            b"QFI\xfb\0\0\0\x03".as_slice(), b"KDMV", b"conectix", b"vhdxfile", b"",
        ]),
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        let mut image = mark.to_vec();
        image.extend(bytes);
        let _ = Disk::open(format, image.as_slice(), LIMIT_BYTES);
    }
}
