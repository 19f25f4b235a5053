//! Damage to what is stored: never served, and mended from the source or told why not.

use std::fs::File;
use std::os::unix::fs::FileExt;

use bessemer_proto::v1;

use crate::client::{Cache, id, spec, wait_for};
use crate::images::{disk, qcow2, sha256, xz};
use crate::origin::Origin;

/// Flips bits at several places of an image's pack.
fn damage(cache: &Cache, id: &str) {
    let path = cache.data("images").join(format!("{id}.pack"));
    let pack = File::options().read(true).write(true).open(path).unwrap();
    let frames_end = pack.metadata().unwrap().len() - 200;
    for at in [0, 100, frames_end / 2, frames_end - 1] {
        let mut byte = [0];
        pack.read_exact_at(&mut byte, at).unwrap();
        pack.write_all_at(&[byte[0] ^ 0x55], at).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_pack_is_healed_from_its_source() {
    let (cache, origin, disk) = (Cache::start().await, Origin::start().await, disk(40));
    let (plain, packed) = (qcow2(&disk, &["-c"]), xz(&qcow2(&disk, &[])));
    for (source, content) in [
        (origin.put_bytes("disk", &plain), &plain),
        (cache.local("disk", &plain), &plain),
        (origin.put_bytes("disk.xz", &packed), &packed),
    ] {
        let prepared = cache.prepare(spec(&source, &sha256(content))).await.unwrap();
        let (_, whole) = cache.get(id(&prepared), "pack", "").await;
        damage(&cache, id(&prepared));
        let (status, body) = cache.get(id(&prepared), "pack", "").await;
        assert_eq!(status.as_u16(), 503, "{}", String::from_utf8_lossy(&body));
        let healed = wait_for("healing", || async {
            let (status, pack) = cache.get(id(&prepared), "pack", "").await;
            // A response that began before a later frame was found damaged ends early.
            (status.as_u16() == 200 && !pack.is_empty()).then_some(pack)
        });
        assert!(healed.await == whole);
        let (_, raw) = cache.get(id(&prepared), "raw", "").await;
        assert!(raw == disk);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verifying_finds_damage_that_nobody_has_read_and_has_it_mended() {
    let cache = Cache::start().await;
    let prepared = cache.prepare(spec(&cache.local("disk", &disk(44)), "")).await.unwrap();
    let verify = || async {
        let request = v1::VerifyImageRequest { image: "disk".to_owned() };
        let mut answers = cache.grpc.clone().verify_image(request).await.unwrap().into_inner();
        let mut last = None;
        while let Some(answer) = answers.message().await.unwrap() {
            last = Some(answer);
        }
        last.unwrap()
    };
    let whole = verify().await;
    assert_eq!((whole.damaged_chunk_count, whole.image.as_ref()), (0, Some(&prepared)));
    assert_eq!(whole.checked_bytes, whole.total_bytes);
    damage(&cache, id(&prepared));
    assert!(verify().await.damaged_chunk_count > 0);
    wait_for("healing", || async { (verify().await.damaged_chunk_count == 0).then_some(()) }).await;
}

/// Damage in the middle: what was verified before it is sent, nothing of it or behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_response_ends_before_the_damage() {
    use futures::StreamExt as _;

    let (cache, disk) = (Cache::start().await, disk(41));
    let image = cache.prepare(spec(&cache.local("disk", &disk), "")).await.unwrap();
    let (_, whole) = cache.get(id(&image), "pack", "").await;
    let path = cache.data("images").join(format!("{}.pack", id(&image)));
    let pack = File::options().write(true).open(path).unwrap();
    let at = whole.len() * 3 / 4;
    pack.write_all_at(&[whole[at] ^ 1], at as u64).unwrap();
    let response = cache.http.get(format!("{}/pack", image.urls[0])).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    let mut received = Vec::new();
    let mut failed = false;
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) => received.extend_from_slice(&piece),
            Err(_) => failed = true,
        }
    }
    assert!(failed && received.len() <= at);
    assert!(received == whole[..received.len()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_healed_is_given_up_with_the_reason_and_made_anew() {
    let (cache, origin) = (Cache::start().await, Origin::start().await);
    let (first, second) = (disk(42), disk(43));
    let gone = origin.put_bytes("gone", &first);
    let changed = origin.put_bytes("changed", &second);
    for (name, source, content, reason) in [
        ("gone", gone, &first, "IMAGE_SOURCE_REFUSED"),
        ("changed", changed, &second, "IMAGE_CHECKSUM_MISMATCH"),
    ] {
        let image = cache.prepare(spec(&source, &sha256(content))).await.unwrap();
        origin.remove(name);
        if name == "changed" {
            origin.put_bytes(name, &first);
        }
        damage(&cache, id(&image));
        let body = wait_for("giving up", || async {
            let (status, body) = cache.get(id(&image), "pack", "").await;
            (status.as_u16() == 410).then_some(body)
        });
        let body = String::from_utf8(body.await).unwrap();
        assert!(body.contains(reason), "{body}");
        let stored = cache.stored("images");
        assert!(!stored.iter().any(|name| name.starts_with(id(&image))), "{stored:?}");

        origin.put_bytes(name, content);
        let again = cache.prepare(spec(&source, &sha256(content))).await.unwrap();
        assert_eq!(id(&again), id(&image));
        let (status, raw) = cache.get(id(&again), "raw", "").await;
        assert!(status.as_u16() == 200 && &raw == content);
    }
}
