//! Images of other formats than raw, read from their origin without an image cache.

use super::raw::digest_of;
use super::*;

/// The disk as an image of a format, in QEMU's words.
fn converted(raw: &[u8], format: &str, options: &[&str]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let (disk, image) = (directory.path().join("disk"), directory.path().join("image"));
    std::fs::write(&disk, raw).unwrap();
    let fixed = ["convert", "-f", "raw", "-O", format];
    let files = [disk.to_str().unwrap(), image.to_str().unwrap()];
    let arguments = [fixed.as_slice(), options, &files].concat();
    let output = Command::new("qemu-img").args(&arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    std::fs::read(image).unwrap()
}

fn task(origin: &Origin, image: &[u8], disk_format: &str) -> WriteImageTask {
    let digest = digest_of(image, Algorithm::Sha256);
    let source = RawSource {
        url: format!("{}/image", origin.url),
        hash_algo: digest.algorithm().to_string(),
        hash_value: digest.to_string(),
        disk_format: disk_format.to_owned(),
    };
    WriteImageTask { source: Some(Source::Raw(source)), ..WriteImageTask::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_of_all_formats_are_decoded_from_their_origin() {
    let raw = partitioned_image(40);
    for (format, name, options) in [
        ("qcow2", "qcow2", [].as_slice()),
        ("qcow2", "", &["-c"]),
        ("qcow2", "qcow2", &["-c", "-o", "compression_type=zstd"]),
        ("vmdk", "vmdk", &["-o", "subformat=streamOptimized"]),
        ("vpc", "vhd", &["-o", "force_size=on"]),
        ("vhdx", "vhdx", &[]),
        ("vdi", "vdi", &[]),
    ] {
        let image = converted(&raw, format, options);
        let origin = Origin::start([("/image", image.clone())]).await;
        let disk = used_disk(40);
        let report = write_to(disk.path(), task(&origin, &image, name)).await.unwrap();
        assert_holds(disk.path(), &raw);
        assert_eq!(report.image_bytes, raw.len() as u64, "{format} {options:?}");
        // Once to verify it, and once to decode it, and what was on its way when a table was looked at in between.
        let image_bytes = image.len() as u64;
        assert!(report.wire_bytes >= image_bytes, "{format} {options:?}: {report:?}");
        run("sgdisk", &["--verify"], disk.path());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decoded_image_goes_on_after_lost_connections() {
    let raw = partitioned_image(40);
    let image = converted(&raw, "qcow2", &[]);
    let origin = Origin::start([("/image", image.clone())]).await;
    // Of the first reading, and of the second.
    let cuts = [3 * MIB + 11, image.len(), 5 * MIB, 77, 2 * MIB];
    origin.add_faults(cuts.map(Fault::CutAfter));
    let disk = used_disk(40);
    write_to(disk.path(), task(&origin, &image, "qcow2")).await.unwrap();
    assert_holds(disk.path(), &raw);
}

/// Nothing has been written when it is found out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_is_not_right_leaves_the_disk_as_it_was() {
    let raw = partitioned_image(20);
    let whole = converted(&raw, "qcow2", &[]);
    let damaged = {
        let mut damaged = whole.clone();
        damaged[9 * MIB / 2] ^= 1;
        damaged
    };
    let truncated = &whole[..3 * MIB];
    let larger = converted(&partitioned_image(21), "qcow2", &[]);
    for (served, expected, reason) in [
        (damaged.as_slice(), whole.as_slice(), "IMAGE_CHECKSUM_MISMATCH"),
        (&whole[..100], &whole[..100], "IMAGE_TRUNCATED"),
        (&larger, &larger, "IMAGE_LARGER_THAN_DISK"),
    ] {
        let origin = Origin::start([("/image", served.to_vec())]).await;
        let disk = used_disk(20);
        let before = std::fs::read(disk.path()).unwrap();
        let error = write_to(disk.path(), task(&origin, expected, "qcow2")).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{error}");
        assert!(std::fs::read(disk.path()).unwrap() == before, "{reason}: the disk was changed");
    }
    // Its digest is right, its end is missing: known when it gets there, and no table is left.
    let origin = Origin::start([("/image", truncated.to_vec())]).await;
    let disk = used_disk(20);
    let error = write_to(disk.path(), task(&origin, truncated, "qcow2")).await.unwrap_err();
    assert_eq!(error.reason(), "IMAGE_TRUNCATED", "{error}");
    assert!(!has_table(disk.path()));
}

/// A server that sends something else when it is asked again: it is asked once more, and nothing of that is written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_verified_is_not_written() {
    let raw = partitioned_image(20);
    let image = converted(&raw, "qcow2", &[]);
    let origin = Origin::start([("/image", image.clone())]).await;
    let disk = used_disk(20);
    // In the second reading, which is by ranges.
    origin.damage_ranges("/image", 3 * MIB, 1);
    write_to(disk.path(), task(&origin, &image, "qcow2")).await.unwrap();
    assert_holds(disk.path(), &raw);
}
