//! Images that can be prepared.

use bessemer_proto::v1;
use bytes::Bytes;

use crate::client::{Cache, error_info, id, spec};
use crate::images::{converted, disk, gzip, qcow2, sha256, xz};
use crate::origin::{Origin, Served};

/// The image's pack decompresses to the disk, and its raw view is the disk.
async fn assert_serves(cache: &Cache, image: &v1::Image, disk: &[u8]) {
    let resolved = image.resolved.as_ref().unwrap();
    assert_eq!(resolved.raw_size_bytes, disk.len() as u64);
    let (status, pack) = cache.get(id(image), "pack", "").await;
    assert_eq!((status.as_u16(), pack.len() as u64), (200, resolved.pack_size_bytes));
    assert!(zstd::decode_all(pack.as_slice()).unwrap() == disk, "the pack is not the disk");
    let (status, raw) = cache.get(id(image), "raw", "").await;
    assert_eq!(status.as_u16(), 200);
    assert!(raw == disk, "the raw view is not the disk");
    assert!(cache.stored("staging").is_empty() && cache.stored("downloads").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_from_http_and_from_files_becomes_the_same_image() {
    let (cache, origin, disk) = (Cache::start().await, Origin::start().await, disk(1));
    let mut ids = Vec::new();
    let plain = qcow2(&disk, &[]);
    for (name, format, source) in [
        ("raw", "raw", disk.clone()),
        ("raw.gz", "raw", gzip(&disk)),
        ("raw.zst", "raw", zstd::encode_all(disk.as_slice(), 1).unwrap()),
        ("plain", "qcow2", plain.clone()),
        ("plain.gz", "qcow2", gzip(&plain)),
        ("plain.xz", "qcow2", xz(&plain)),
        ("zlib", "qcow2", qcow2(&disk, &["-c"])),
        ("zstd", "qcow2", qcow2(&disk, &["-c", "-o", "compression_type=zstd"])),
        ("sparse", "vmdk", converted(&disk, "vmdk", &[])),
        ("stream", "vmdk", converted(&disk, "vmdk", &["-o", "subformat=streamOptimized"])),
        ("dynamic", "vhd", converted(&disk, "vpc", &["-o", "force_size=on"])),
        ("vdi", "vdi", converted(&disk, "vdi", &[])),
    ] {
        let url = origin.put_bytes(name, &source);
        let image = cache.prepare(spec(&url, &sha256(&source))).await.unwrap();
        let resolved = image.resolved.clone().unwrap();
        assert_eq!((image.name.as_str(), resolved.source_format.as_str()), (name, format));
        assert_eq!(
            (resolved.raw_hash_algo.as_str(), resolved.raw_hash_value),
            ("sha256", sha256(&disk))
        );
        assert_eq!(image.source_size_bytes, source.len() as u64);
        assert_serves(&cache, &image, &disk).await;
        ids.push(id(&image).to_owned());

        let url = cache.local(name, &source);
        let image = cache.prepare(spec(&url, "")).await.unwrap();
        assert_serves(&cache, &image, &disk).await;
        ids.push(id(&image).to_owned());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "the same disk has several ids");
}

/// Its mark is at its end, so it has to be declared; undeclared, it is a raw disk with one more
/// sector.
#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_vhd_is_read_as_declared() {
    let (cache, disk) = (Cache::start().await, disk(12));
    let source = converted(&disk, "vpc", &["-o", "subformat=fixed,force_size=on"]);
    let url = cache.local("fixed", &source);
    for declared in ["vhd", "vpc"] {
        let mut spec = spec(&url, "");
        spec.disk_format = declared.to_owned();
        assert_serves(&cache, &cache.prepare(spec).await.unwrap(), &disk).await;
    }
    assert_serves(&cache, &cache.prepare(spec(&url, "")).await.unwrap(), &source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_raw_digest_follows_ironics_rule() {
    let (cache, disk) = (Cache::start().await, disk(2));
    let image = qcow2(&disk, &[]);
    let (raw_url, qcow2_url) = (cache.local("raw", &disk), cache.local("qcow2", &image));
    let digest = |algorithm: &str, bytes: &[u8]| {
        let algorithm = algorithm.parse().unwrap();
        let mut hasher = bessemer_image::digest::Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish().to_string()
    };
    for (given, of_raw, of_qcow2) in
        [("md5", "md5", "sha256"), ("sha256", "sha256", "sha256"), ("sha512", "sha512", "sha512")]
    {
        for (url, source, expected) in [(&raw_url, &disk, of_raw), (&qcow2_url, &image, of_qcow2)] {
            let mut spec = spec(url, "");
            spec.os_hash_algo = given.to_owned();
            spec.os_hash_value = digest(given, source).to_uppercase();
            let resolved = cache.prepare(spec).await.unwrap().resolved.unwrap();
            assert_eq!(resolved.raw_hash_algo, expected);
            assert_eq!(resolved.raw_hash_value, digest(expected, &disk));
        }
    }
}

/// Each connection breaks after 400 kB; ranges continue where the last one ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_is_cut_is_resumed_where_it_ended() {
    const CUT_AFTER_BYTES: usize = 400_000;
    let (cache, origin, disk) = (Cache::start().await, Origin::start().await, disk(3));
    let sources = [
        ("raw", disk.clone()),
        ("qcow2", qcow2(&disk, &[])),
        ("qcow2.xz", xz(&qcow2(&disk, &[]))),
        ("raw.gz", gzip(&disk)),
    ];
    for (name, source) in sources {
        for etag in [Some("\"1\""), None] {
            let name = format!("{name}-{}", etag.is_some());
            let content = Bytes::copy_from_slice(&source);
            let cut_after = Some(CUT_AFTER_BYTES);
            let url = origin.put(&name, Served { content, etag, cut_after, ..Served::default() });
            let image = cache.prepare(spec(&url, &sha256(&source))).await.unwrap();
            assert_serves(&cache, &image, &disk).await;
            let requests = origin.requests(&name);
            assert_eq!(requests.len(), source.len().div_ceil(CUT_AFTER_BYTES), "{requests:?}");
            assert_eq!(requests[1], format!("bytes={CUT_AFTER_BYTES}-"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_of_unknown_length_is_prepared() {
    let (cache, origin, disk) = (Cache::start().await, Origin::start().await, disk(4));
    for (name, source) in [("raw", disk.clone()), ("qcow2", qcow2(&disk, &["-c"]))] {
        let content = Bytes::copy_from_slice(&source);
        let url = origin.put(name, Served { content, chunked: true, ..Served::default() });
        let image = cache.prepare(spec(&url, &sha256(&source))).await.unwrap();
        assert_serves(&cache, &image, &disk).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_of_the_same_image_share_one_download_even_when_the_first_goes_away() {
    let (cache, origin, disk) = (Cache::start().await, Origin::start().await, disk(5));
    let content = Bytes::copy_from_slice(&disk);
    let stalled = Served { content, stall_after: Some(2_000_000), ..Served::default() };
    let url = origin.put("disk", stalled);
    let request = || v1::PrepareImageRequest {
        image: Some(spec(&url, &sha256(&disk))),
        ..v1::PrepareImageRequest::default()
    };
    let mut first = cache.grpc.clone().prepare_image(request()).await.unwrap().into_inner();
    assert!(first.message().await.unwrap().is_some());
    let mut second = cache.grpc.clone().prepare_image(request()).await.unwrap().into_inner();
    drop(first);
    assert!(second.message().await.unwrap().is_some());
    assert_eq!(origin.requests("disk").len(), 1);
    drop(second);

    let url = origin.put_bytes("other", &disk);
    let calls = (0..8).map(|_| cache.prepare(spec(&url, &sha256(&disk))));
    let images = futures::future::join_all(calls).await;
    assert!(
        images.iter().all(|image| id(image.as_ref().unwrap()) == id(images[0].as_ref().unwrap()))
    );
    assert_eq!(origin.requests("other").len(), 1);
    // And who comes later is answered at once, without the origin.
    origin.remove("other");
    cache.prepare(spec(&url, &sha256(&disk))).await.unwrap();
    assert_eq!(origin.requests("other").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checksum_may_be_the_url_of_a_checksum_file() {
    let (cache, origin, disk) = (Cache::start().await, Origin::start().await, disk(6));
    let url = origin.put_bytes("my disk.img", &disk).replace(' ', "%20");
    let gnu = format!("{}  other.img\n{} *my disk.img\n", "0".repeat(64), sha256(&disk));
    let sums = origin.put_bytes("SHA256SUMS", gnu.as_bytes());
    let image = cache.prepare(spec(&url, &sums)).await.unwrap();
    assert_eq!(image.name, "my disk.img");
    assert_serves(&cache, &image, &disk).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_file_that_changed_is_prepared_again() {
    let cache = Cache::start().await;
    let (before, after) = (disk(7), disk(8));
    let url = cache.local("disk", &before);
    let first = cache.prepare(spec(&url, "")).await.unwrap();
    assert_eq!(id(&cache.prepare(spec(&url, "")).await.unwrap()), id(&first));
    cache.local("disk", &after[..after.len() - 512]);
    let second = cache.prepare(spec(&url, "")).await.unwrap();
    assert_serves(&cache, &second, &after[..after.len() - 512]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_found_by_id_beginning_of_id_and_name() {
    let mut cache = Cache::start().await;
    let url = cache.local("disk.img", &disk(9));
    let image = cache.prepare(spec(&url, "")).await.unwrap();
    for reference in [id(&image), &id(&image)[..8], "disk.img"] {
        let request = v1::GetImageRequest { image: reference.to_owned() };
        assert_eq!(cache.grpc.get_image(request).await.unwrap().into_inner(), image);
    }
    for reference in [&id(&image)[..7], "other", ""] {
        let request = v1::GetImageRequest { image: reference.to_owned() };
        let error = cache.grpc.get_image(request).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::NotFound);
    }
    let list = cache.grpc.list_images(v1::ListImagesRequest {}).await.unwrap().into_inner();
    assert_eq!(list.images, [image]);
}

/// A pinned image is kept though there is no room, also by a cache that was started again.
#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_image_is_kept_and_one_in_use_is_evicted_by_force_only() {
    let small = |config: &mut bessemer_image_cache::Config| {
        config.cache_limit_bytes = 4 << 20;
        config.keep_used_seconds = 0;
    };
    let mut cache = Cache::start_in(tempfile::tempdir().unwrap(), small).await;
    let pin = |pinned| v1::PinImageRequest { image: "first".to_owned(), pinned };
    let url = cache.local("first", &disk(13));
    cache.prepare(spec(&url, "")).await.unwrap();
    assert!(cache.grpc.pin_image(pin(true)).await.unwrap().into_inner().pinned);
    let mut cache = Cache::start_in(cache.stop().await, small).await;
    for name in ["second", "third"] {
        let url = cache.local(name, &disk(name.len() as u64));
        cache.prepare(spec(&url, "")).await.unwrap();
    }
    let names = |images: v1::ListImagesResponse| {
        let mut names: Vec<_> = images.images.into_iter().map(|image| image.name).collect();
        names.sort();
        names
    };
    let list = cache.grpc.list_images(v1::ListImagesRequest {}).await.unwrap().into_inner();
    assert_eq!(names(list), ["first", "third"]);

    let evict = |name: &str, force| v1::EvictImageRequest { image: name.to_owned(), force };
    let error = cache.grpc.evict_image(evict("first", true)).await.unwrap_err();
    assert_eq!(error_info(&error).0, "IMAGE_PINNED");
    assert!(!cache.grpc.pin_image(pin(false)).await.unwrap().into_inner().pinned);
    let usual = |config: &mut bessemer_image_cache::Config| config.keep_used_seconds = 3600;
    let mut cache = Cache::start_in(cache.stop().await, usual).await;
    let error = cache.grpc.evict_image(evict("third", false)).await.unwrap_err();
    assert_eq!(error_info(&error).0, "IMAGE_IN_USE");
    let evicted = cache.grpc.evict_image(evict("third", true)).await.unwrap().into_inner();
    assert_eq!(evicted.image.unwrap().name, "third");
    assert_eq!(cache.stored("images").len(), 2);
    let error = cache.grpc.evict_image(evict("third", true)).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::NotFound);
}

/// Room for one image: the older one goes, unless it was used just now.
#[tokio::test(flavor = "multi_thread")]
async fn the_images_used_least_recently_make_room() {
    for (keep_used_seconds, kept) in [(0, 1), (3600, 2)] {
        let cache = Cache::start_in(tempfile::tempdir().unwrap(), |config| {
            config.cache_limit_bytes = 3 << 20;
            config.keep_used_seconds = keep_used_seconds;
        })
        .await;
        for seed in [10, 11] {
            let url = cache.local(&format!("disk{seed}"), &disk(seed));
            cache.prepare(spec(&url, "")).await.unwrap();
        }
        assert_eq!(cache.stored("catalogue").len(), kept);
        assert_eq!(cache.stored("images").len(), kept * 2);
    }
}

/// Sources behind basic authentication. Another server that the first one points to is not told.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_told_its_own_credentials_only() {
    let (origin, other, disk) = (Origin::start().await, Origin::start().await, disk(14));
    let directory = tempfile::tempdir().unwrap();
    let password_file = directory.path().join("password");
    std::fs::write(&password_file, "pass word\n").unwrap();
    let content = Bytes::copy_from_slice(&disk);
    // `me:pass word`
    let authorization = Some("Basic bWU6cGFzcyB3b3Jk");
    let closed = Served { content, authorization, ..Served::default() };
    let url = origin.put("closed", closed.clone());
    let elsewhere = Served { location: Some(other.put("closed", closed)), ..Served::default() };
    let redirected = origin.put("redirected", elsewhere);
    let host = url.trim_start_matches("http://").trim_end_matches("/closed").to_owned();
    let cache = Cache::start_in(directory, |config| {
        config.http.credentials = vec![bessemer_image_cache::CredentialsConfig {
            host,
            username: "me".to_owned(),
            password_file,
        }];
    })
    .await;
    let image = cache.prepare(spec(&url, &sha256(&disk))).await.unwrap();
    assert_serves(&cache, &image, &disk).await;
    let error = cache.prepare(spec(&redirected, &sha256(&disk))).await.unwrap_err();
    assert_eq!(error_info(&error).0, "IMAGE_SOURCE_REFUSED");
    assert!(error.message().contains("[[http.credentials]]"), "{error}");
    assert_eq!(other.requests("closed").len(), 1);
}
