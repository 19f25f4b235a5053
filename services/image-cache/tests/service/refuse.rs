//! Images that must not be prepared: each with its reason, its field, and nothing left behind.

use bessemer_proto::v1;
use bytes::Bytes;
use tonic::Code;

use crate::client::{Cache, error_info, id, spec};
use crate::images::{converted, disk, gzip, qcow2, qemu_img, sha256, text, xz};
use crate::origin::{Origin, Served};

/// Prepares in vain.
async fn assert_refused(cache: &Cache, spec: v1::ImageSpec, code: Code, reason: &str, field: &str) {
    let what = format!("{spec:?}");
    let error = cache.prepare(spec).await.unwrap_err();
    let (found, metadata) = error_info(&error);
    assert_eq!((error.code(), found.as_str()), (code, reason), "{what}: {error}");
    assert_eq!(metadata.get("field").map(String::as_str), Some(field), "{what}: {error}");
    assert!(metadata.contains_key("value"), "{what}: {error}");
    for directory in ["images", "catalogue", "staging", "downloads"] {
        assert!(cache.stored(directory).is_empty(), "{what} left something in {directory}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_and_missing_checksums() {
    let (cache, origin, disk) = (Cache::start().await, Origin::start().await, disk(20));
    let image = qcow2(&disk, &[]);
    let wrong = sha256(b"something else");
    for (name, content) in [("raw", &disk), ("qcow2", &image)] {
        let (url, file) = (origin.put_bytes(name, content), cache.local(name, content));
        let mismatch = "IMAGE_CHECKSUM_MISMATCH";
        for source in [&url, &file] {
            let request = spec(source, &wrong);
            assert_refused(&cache, request, Code::FailedPrecondition, mismatch, "image.checksum")
                .await;
        }
        let (request, reason) = (spec(&url, ""), "IMAGE_CHECKSUM_MISSING");
        assert_refused(&cache, request, Code::InvalidArgument, reason, "image.checksum").await;
    }
    let mut request = spec(&origin.put_bytes("raw", &disk), "");
    request.os_hash_algo = "sha512".to_owned();
    let reason = "IMAGE_CHECKSUM_INVALID";
    assert_refused(&cache, request, Code::InvalidArgument, reason, "image.os_hash_value").await;
}

/// What is cached answers only those who expect it.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_checksum_is_no_hit() {
    let (cache, origin, disk) = (Cache::start().await, Origin::start().await, disk(21));
    let url = origin.put_bytes("disk", &disk);
    let image = cache.prepare(spec(&url, &sha256(&disk))).await.unwrap();
    let error = cache.prepare(spec(&url, &sha256(b"other"))).await.unwrap_err();
    assert_eq!(error_info(&error).0, "IMAGE_CHECKSUM_MISMATCH");
    assert_eq!(cache.get(id(&image), "manifest", "").await.0.as_u16(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn formats_that_are_not_what_was_declared_or_cannot_be_prepared() {
    let (cache, disk) = (Cache::start().await, disk(22));
    let (raw, image) = (cache.local("raw", &disk), cache.local("qcow2", &qcow2(&disk, &[])));
    for (source, declared) in [(&raw, "qcow2"), (&image, "raw")] {
        let mut request = spec(source, "");
        request.disk_format = declared.to_owned();
        let reason = "IMAGE_FORMAT_MISMATCH";
        assert_refused(&cache, request, Code::FailedPrecondition, reason, "image.disk_format")
            .await;
    }
    let reason = "IMAGE_FORMAT_UNSUPPORTED";
    let twice = gzip(&gzip(&disk));
    let split = converted(&disk, "vmdk", &["-o", "subformat=twoGbMaxExtentSparse"]);
    for (name, content) in
        [("qed", b"QED\0 and so on".as_slice()), ("twice", &twice), ("descriptor", &split)]
    {
        let request = spec(&cache.local(name, content), "");
        assert_refused(&cache, request, Code::FailedPrecondition, reason, "image.source").await;
    }
}

/// Compressed sources that are no source: damaged with the checksum of the damage, and endless.
#[tokio::test(flavor = "multi_thread")]
async fn compressed_sources_that_do_not_unpack() {
    let origin = Origin::start().await;
    let cache = Cache::start_in(tempfile::tempdir().unwrap(), |config| {
        config.max_image_bytes = 32 << 20;
    })
    .await;
    let disk = disk(27);
    let (raw, inside) = (gzip(&disk), xz(&qcow2(&disk, &[])));
    let mut damaged = inside.clone();
    damaged[inside.len() / 2] ^= 0x20;
    let cut = &raw[..raw.len() - 100];
    let bomb = gzip(&vec![0; 40 << 20]);
    for (name, content, reason) in [
        ("damaged", damaged.as_slice(), "IMAGE_MALFORMED"),
        ("cut", cut, "IMAGE_TRUNCATED"),
        ("bomb", &bomb, "IMAGE_TOO_LARGE"),
    ] {
        for source in [origin.put_bytes(name, content), cache.local(name, content)] {
            let request = spec(&source, &sha256(content));
            assert_refused(&cache, request, Code::FailedPrecondition, reason, "image.source").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn qcow2_images_that_depend_on_other_files() {
    let cache = Cache::start().await;
    let files = cache.directory.path().join("files");
    let (base, data, image) = (files.join("base"), files.join("data"), files.join("image"));
    std::fs::write(&base, disk(23)).unwrap();
    let source = format!("file://{}", text(&image));
    qemu_img(&["create", "-q", "-f", "qcow2", "-F", "raw", "-b", text(&base), text(&image)]);
    let reason = "IMAGE_BACKING_FILE";
    assert_refused(&cache, spec(&source, ""), Code::FailedPrecondition, reason, "image.source")
        .await;
    let external = format!("data_file={}", text(&data));
    qemu_img(&["create", "-q", "-f", "qcow2", "-o", &external, text(&image), "1M"]);
    let reason = "IMAGE_EXTERNAL_DATA_FILE";
    assert_refused(&cache, spec(&source, ""), Code::FailedPrecondition, reason, "image.source")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_sources() {
    let (cache, origin, disk) = (Cache::start().await, Origin::start().await, disk(24));
    let whole = qcow2(&disk, &[]);
    let cut = &whole[..whole.len() - 200_000];
    let reason = "IMAGE_TRUNCATED";
    // The checksum is that of the truncated file: only the decoder can tell.
    for source in [origin.put_bytes("cut", cut), cache.local("cut", cut)] {
        let request = spec(&source, &sha256(cut));
        assert_refused(&cache, request, Code::FailedPrecondition, reason, "image.source").await;
    }
    // The checksum is that of the whole file: it explains more than where the decoder stopped.
    for source in [origin.put_bytes("cut", cut), cache.local("cut", cut)] {
        let (request, reason) = (spec(&source, &sha256(&whole)), "IMAGE_CHECKSUM_MISMATCH");
        assert_refused(&cache, request, Code::FailedPrecondition, reason, "image.checksum").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_that_are_too_large_gone_or_out_of_bounds() {
    let origin = Origin::start().await;
    let cache = Cache::start_in(tempfile::tempdir().unwrap(), |config| {
        config.max_image_bytes = 1 << 20;
    })
    .await;
    let disk = disk(25);
    let small = qcow2(&vec![0; 4 << 20], &[]);
    let content = Bytes::copy_from_slice(&disk);
    let chunked = origin.put("chunked", Served { content, chunked: true, ..Served::default() });
    let digest = sha256(&disk);
    for request in [
        spec(&origin.put_bytes("disk", &disk), &digest),
        spec(&chunked, &digest),
        spec(&cache.local("disk", &disk), ""),
        spec(&origin.put_bytes("virtual", &small), &sha256(&small)),
    ] {
        let reason = "IMAGE_TOO_LARGE";
        assert_refused(&cache, request, Code::FailedPrecondition, reason, "image.source").await;
    }
    let missing = format!("{}-not", origin.put_bytes("x", b""));
    let reason = "IMAGE_SOURCE_REFUSED";
    for source in [missing.as_str(), "file:///etc/passwd"] {
        let request = spec(source, &digest);
        assert_refused(&cache, request, Code::FailedPrecondition, reason, "image.source").await;
    }
    let gone = format!("file://{}/gone", cache.directory.path().join("files").display());
    let request = spec(&gone, "");
    assert_refused(&cache, request, Code::FailedPrecondition, reason, "image.source").await;
}
