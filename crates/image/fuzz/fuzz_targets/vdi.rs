//! The vdi reader.

#![no_main]

use bessemer_image::format::DiskFormat;
use bessemer_image_fuzz::read_disk;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|image: &[u8]| read_disk(DiskFormat::Vdi, image));
