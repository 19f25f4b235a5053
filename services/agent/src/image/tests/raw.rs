//! Plain raw images.

use super::*;

pub(super) fn digest_of(raw: &[u8], algorithm: Algorithm) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(raw);
    hasher.finish()
}

pub(super) fn task(origin: &Origin, digest: Digest) -> WriteImageTask {
    let raw = RawSource {
        url: format!("{}/raw", origin.url),
        hash_algo: digest.algorithm().to_string(),
        // Either case is the same.
        hash_value: digest.to_string().to_uppercase(),
        disk_format: "raw".to_owned(),
    };
    WriteImageTask { source: Some(Source::Raw(raw)), ..WriteImageTask::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raw_image_is_written_and_checked() {
    let raw = partitioned_image(20);
    let origin = Origin::start([("/raw", raw.clone())]).await;
    for algorithm in Algorithm::ALL {
        let disk = used_disk(30);
        let digest = digest_of(&raw, algorithm);
        let report = write_to(disk.path(), task(&origin, digest)).await.unwrap();
        assert_eq!((report.image_bytes, report.wire_bytes), (20 * MIB as u64, 20 * MIB as u64));
        run("sgdisk", &["--verify"], disk.path());
        let content = std::fs::read(disk.path()).unwrap();
        assert!(content[34 * 512..19 * MIB] == raw[34 * 512..19 * MIB]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_length_will_do() {
    for length in [1, 4096, MIB, MIB + 1, 3 * MIB + 777] {
        let raw = noise(5, length);
        let origin = Origin::start([("/raw", raw.clone())]).await;
        let disk = used_disk(5);
        let digest = digest_of(&raw, Algorithm::Sha256);
        write_to(disk.path(), task(&origin, digest)).await.unwrap();
        assert_holds(disk.path(), &raw);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_digest_leaves_no_table() {
    let raw = partitioned_image(20);
    let origin = Origin::start([("/raw", raw.clone())]).await;
    origin.damage("/raw", 7 * MIB, 1);
    let disk = used_disk(20);
    let expected = digest_of(&raw, Algorithm::Sha512);

    let error = write_to(disk.path(), task(&origin, expected)).await.unwrap_err();

    assert_eq!(error.reason(), "IMAGE_CHECKSUM_MISMATCH");
    assert!(error.to_string().contains(&expected.to_string()), "{error}");
    assert!(!has_table(disk.path()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_connections_are_resumed_by_range() {
    let raw = partitioned_image(20);
    let origin = Origin::start([("/raw", raw.clone())]).await;
    let disk = used_disk(20);
    let path = disk.path().to_owned();
    let first = std::sync::atomic::AtomicBool::new(true);
    origin.watch(move || {
        // The first request is made before the disk is touched: it tells the image's size.
        let is_first = first.swap(false, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(has_table(&path), is_first);
    });
    let cuts = [3 * MIB + 11, 5, 0, 9 * MIB];
    origin.add_faults(cuts.map(Fault::CutAfter));

    let digest = digest_of(&raw, Algorithm::Sha256);
    let report = write_to(disk.path(), task(&origin, digest)).await.unwrap();

    assert_holds(disk.path(), &raw);
    assert_eq!(report.wire_bytes, 20 * MIB as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_without_ranges_is_read_again_from_the_start() {
    let raw = partitioned_image(20);
    let origin = Origin::start([("/raw", raw.clone())]).await;
    origin.forget_ranges();
    origin.add_faults([Fault::CutAfter(9 * MIB), Fault::CutAfter(3 * MIB)]);
    let disk = used_disk(20);
    let writing = begin(disk.path(), task(&origin, digest_of(&raw, Algorithm::Md5)), false);
    let meter = Arc::clone(&writing.meter);
    writing.work.await.unwrap().unwrap();
    assert_holds(disk.path(), &raw);
    assert_eq!(meter.done_bytes(), 20 * MIB as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raw_image_larger_than_the_disk_is_refused_untouched() {
    let raw = noise(1, 6 * MIB);
    let origin = Origin::start([("/raw", raw.clone())]).await;
    let disk = used_disk(5);
    let task = task(&origin, digest_of(&raw, Algorithm::Sha256));
    let error = write_to(disk.path(), task).await.unwrap_err();
    assert_eq!(error.reason(), "IMAGE_LARGER_THAN_DISK");
    assert!(has_table(disk.path()));
}

/// Its digest is right, and all the same it is not what it was said to be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_of_an_image_is_refused_before_anything_of_it_is_written() {
    for (mark, name, reason) in [
        (b"QFI\xfb\0\0\0\x03".as_slice(), "qcow2", "IMAGE_FORMAT_MISMATCH"),
        (b"\x1f\x8b", "gzip", "IMAGE_FORMAT_UNSUPPORTED"),
    ] {
        let mut raw = noise(5, 3 * MIB);
        raw[..mark.len()].copy_from_slice(mark);
        let origin = Origin::start([("/raw", raw.clone())]).await;
        let disk = used_disk(5);
        let before = std::fs::read(disk.path()).unwrap();
        let digest = digest_of(&raw, Algorithm::Sha256);
        let error = write_to(disk.path(), task(&origin, digest)).await.unwrap_err();
        assert_eq!(error.reason(), reason);
        assert!(error.to_string().contains(name), "{error}");
        assert!(std::fs::read(disk.path()).unwrap() == before, "something was written");
    }
}
