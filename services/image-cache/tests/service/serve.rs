//! What agents and other clients get over HTTP.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bessemer_image::pack::{ChunkDecoder, Manifest, ManifestDigest};
use bessemer_image::permit::{Permit, PermitKey};
use uuid::Uuid;

use crate::client::{Cache, id, spec};
use crate::images::disk;

#[tokio::test(flavor = "multi_thread")]
async fn any_range_of_a_pack_and_of_its_raw_view_is_those_bytes() {
    let (cache, disk) = (Cache::start().await, disk(30));
    let image = cache.prepare(spec(&cache.local("disk", &disk), "")).await.unwrap();
    let id = id(&image);
    let (_, pack) = cache.get(id, "pack", "").await;
    for (view, whole) in [("pack", &pack), ("raw", &disk)] {
        let length = whole.len();
        for (first, last) in [
            (0, 0),
            (0, length - 1),
            (1, 300_000),
            ((1 << 20) - 1, (1 << 20) + 1),
            (length / 2, length / 2 + 2_000_000),
            (length - 1, length - 1),
            (length - 30, length - 1),
            (length - 1, length + 1000),
        ] {
            let (status, part) = cache.get(id, view, &format!("bytes={first}-{last}")).await;
            assert_eq!(status.as_u16(), 206);
            let expected = whole.get(first..=last.min(length - 1)).unwrap_or_default();
            assert!(part == expected, "{view} {first}-{last}");
        }
        let (status, tail) = cache.get(id, view, "bytes=-100").await;
        assert!(status.as_u16() == 206 && tail == whole[length - 100..]);
        let (status, _) = cache.get(id, view, &format!("bytes={length}-")).await;
        assert_eq!(status.as_u16(), 416);
    }
}

/// What an agent does: manifest by id, extents by range, every chunk verified.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_rebuilds_the_disk_from_manifest_and_extents() {
    let (cache, disk) = (Cache::start().await, disk(31));
    let image = cache.prepare(spec(&cache.local("disk", &disk), "")).await.unwrap();
    let (_, encoded) = cache.get(id(&image), "manifest", "").await;
    let digest = image.manifest_digest.parse().unwrap();
    let manifest = Manifest::parse(encoded, Some(&digest)).unwrap();
    assert_eq!(manifest.zero_chunk_count(), image.zero_chunk_count);
    assert!(image.zero_chunk_count > 0);
    let mut written = vec![0; disk.len()];
    let mut decoder = ChunkDecoder::new().unwrap();
    for extent in manifest.extents_from(Default::default()) {
        let (start, end) = (extent.pack_offset_bytes, extent.pack_offset_bytes + extent.pack_bytes);
        let (_, frames) =
            cache.get(id(&image), "pack", &format!("bytes={start}-{}", end - 1)).await;
        let chunks = manifest.chunks_from(extent.first).take(extent.chunk_count as usize);
        for chunk in chunks {
            let frame = &frames[(chunk.frame_offset_bytes - start) as usize..][..chunk.frame_bytes];
            let into = &mut written[chunk.index.raw_offset_bytes() as usize..][..chunk.raw_bytes];
            decoder.decode(&manifest, chunk.index, frame, into).unwrap();
        }
    }
    assert!(written == disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_name_the_content_they_are_of() {
    let (cache, disk) = (Cache::start().await, disk(32));
    let image = cache.prepare(spec(&cache.local("disk", &disk), "")).await.unwrap();
    let url = format!("{}/pack", image.urls[0]);
    let response = cache.http.get(&url).send().await.unwrap();
    let etag = response.headers()["etag"].clone();
    assert_eq!(etag, format!("\"{}\"", id(&image)));
    let range = |condition: http::HeaderValue| {
        cache.http.get(&url).header("range", "bytes=0-9").header("if-range", condition).send()
    };
    assert_eq!(range(etag).await.unwrap().status().as_u16(), 206);
    let other = http::HeaderValue::from_static("\"other\"");
    assert_eq!(range(other).await.unwrap().status().as_u16(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_is_not_found() {
    let cache = Cache::start().await;
    for id in ["0".repeat(64), "not-an-id".to_owned()] {
        for path in ["manifest", "pack", "raw"] {
            let (status, body) = cache.get(&id, path, "").await;
            assert_eq!(status.as_u16(), 404);
            assert!(String::from_utf8_lossy(&body).contains("RESOURCE_NOT_FOUND"));
        }
    }
}

/// Writes the secret that `byte` stands for.
pub(crate) fn key_file(directory: &Path, byte: u8) -> PathBuf {
    let path = directory.join(format!("key-{byte}"));
    std::fs::write(&path, format!("{}\n", char::from(byte).to_string().repeat(40))).unwrap();
    path
}

/// With keys, an image is had by a URL that was signed with one of them, for that image, until it expires.
#[tokio::test(flavor = "multi_thread")]
async fn images_are_read_by_signed_urls_only_where_that_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let key_files = [b'a', b'b'].map(|byte| key_file(directory.path(), byte));
    let cache = Cache::start_in(directory, |config| {
        config.url_key_files = key_files.to_vec();
    })
    .await;
    let disk = disk(33);
    let image = cache.prepare(spec(&cache.local("disk", &disk), "")).await.unwrap();
    let other = cache.prepare(spec(&cache.local("other", &self::disk(34)), "")).await.unwrap();
    let hour = Duration::from_secs(3600);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let signed = |url: &str, byte: u8, expires: Duration| {
        let key = PermitKey::derive(&[byte; 40]).unwrap();
        let expires_unix_seconds = expires.as_secs();
        Permit { deployment: Uuid::new_v4(), expires_unix_seconds }.sign_url(url, &key).unwrap()
    };
    let get = async |url: &str, path: &str| {
        let response = cache.http.get(format!("{url}/{path}")).send().await.unwrap();
        (response.status().as_u16(), response.bytes().await.unwrap().to_vec())
    };
    // Both, for keys are exchanged one process after the other.
    for byte in [b'a', b'b'] {
        let url = signed(&image.urls[0], byte, now + hour);
        for (path, length) in
            [("raw", disk.len() as u64), ("pack", image.resolved.as_ref().unwrap().pack_size_bytes)]
        {
            let (status, body) = get(&url, path).await;
            assert_eq!((status, body.len() as u64), (200, length), "{path}");
        }
        assert_eq!(get(&url, "manifest").await.0, 200);
    }
    let permit_of_other = {
        let id: ManifestDigest = id(&other).parse().unwrap();
        let key = PermitKey::derive(&[b'a'; 40]).unwrap();
        Permit { deployment: Uuid::nil(), expires_unix_seconds: u64::MAX }.sign(id, &key)
    };
    let (base, id) = image.urls[0].rsplit_once("/v1/images/").unwrap();
    for (url, reason) in [
        (image.urls[0].clone(), "URL_NOT_SIGNED"),
        (signed(&image.urls[0], b'c', now + hour), "URL_NOT_SIGNED"),
        (format!("{base}/v1/permits/{permit_of_other}/images/{id}"), "URL_NOT_SIGNED"),
        (format!("{base}/v1/permits/anything/images/{id}"), "URL_NOT_SIGNED"),
        (signed(&image.urls[0], b'a', now - hour), "URL_EXPIRED"),
    ] {
        for path in ["raw", "pack", "manifest"] {
            let (status, body) = get(&url, path).await;
            let body = String::from_utf8(body).unwrap();
            assert!(status == 403 && body.contains(reason), "{url}/{path}: {status} {body}");
        }
    }
}

#[tokio::test]
async fn a_key_that_is_too_short_is_named_before_anything_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("short");
    std::fs::write(&path, "secret").unwrap();
    let mut config = crate::client::config(directory.path());
    config.url_key_files = vec![path.clone()];
    let stop = tokio_util::sync::CancellationToken::new();
    let error = bessemer_image_cache::start(config, stop).await.unwrap_err();
    let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
    assert!(text.contains(path.to_str().unwrap()) && text.contains("32"), "{text}");
}
