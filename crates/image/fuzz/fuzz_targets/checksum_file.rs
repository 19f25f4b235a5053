//! Any bytes as a checksum file.

#![no_main]

use bessemer_image::checksum_file;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    let _ = checksum_file::find(file, "disk.img");
});
