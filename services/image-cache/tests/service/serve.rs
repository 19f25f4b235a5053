//! What agents and other clients get over HTTP.

use bessemer_image::pack::{ChunkDecoder, Manifest};

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
