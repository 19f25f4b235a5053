//! Several caches of one site: an image is fetched from its source once, and does not go with one of them.

use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use bessemer_proto::v1;

use crate::client::{Cache, id, spec, wait_for};
use crate::images::{disk, qcow2, sha256};
use crate::origin::Origin;
use crate::serve::key_file;

/// Two caches that know each other.
async fn pair() -> (Cache, Cache) {
    pair_with(&[]).await
}

/// Two that let nobody read without a URL that is signed with one of the keys.
async fn pair_with(key_files: &[PathBuf]) -> (Cache, Cache) {
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (a, b) = (free(), free());
    (member(a, b, key_files).await, member(b, a, key_files).await)
}

async fn member(own: SocketAddr, peer: SocketAddr, key_files: &[PathBuf]) -> Cache {
    Cache::start_in(tempfile::tempdir().unwrap(), |config| {
        config.grpc_listen = own;
        config.peers = vec![format!("http://{peer}")];
        config.url_key_files = key_files.to_vec();
    })
    .await
}

/// The image with an id, as soon as a cache has it.
async fn held(cache: &Cache, id: &str) -> v1::Image {
    wait_for("the image at the other cache", async || {
        let request = v1::GetImageRequest { image: id.to_owned() };
        cache.grpc.clone().get_image(request).await.ok().map(tonic::Response::into_inner)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_prepares_the_other_copies_and_both_say_where_it_is() {
    let (a, b) = pair().await;
    let raw = disk(70);
    let source = qcow2(&raw, &[]);
    let origin = Origin::start().await;
    let wanted = spec(&origin.put_bytes("disk.qcow2", &source), &sha256(&source));

    let image = a.prepare(wanted.clone()).await.unwrap();
    let copy = held(&b, id(&image)).await;

    let requests = origin.requests("disk.qcow2");
    assert_eq!(
        (copy.resolved.clone(), copy.spec.clone()),
        (image.resolved.clone(), image.spec.clone())
    );
    assert_eq!(b.get(id(&image), "raw", "").await.1, raw);
    assert_eq!(b.get(id(&image), "pack", "").await.1, a.get(id(&image), "pack", "").await.1);
    let both = [a.url(id(&image)), b.url(id(&image))];
    assert_eq!(copy.urls, [both[1].clone(), both[0].clone()]);
    // The first one hears of the copy when it is complete.
    wait_for("both addresses", async || {
        (a.prepare(wanted.clone()).await.unwrap().urls == both).then_some(())
    })
    .await;
    assert_eq!(b.prepare(wanted).await.unwrap().urls[0], both[1]);
    assert_eq!(origin.requests("disk.qcow2"), requests, "the source was asked again");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_at_one_cache_does_not_reach_the_other() {
    let (a, b) = pair().await;
    let source = disk(71);
    let origin = Origin::start().await;
    let wanted = spec(&origin.put_bytes("disk", &source), &sha256(&source));
    let image = a.prepare(wanted.clone()).await.unwrap();
    held(&b, id(&image)).await;
    let evict = v1::EvictImageRequest { image: id(&image).to_owned(), force: true };
    b.grpc.clone().evict_image(evict).await.unwrap();
    let pack = a.data(&format!("images/{}.pack", id(&image)));
    std::fs::File::options().write(true).open(pack).unwrap().write_all_at(b"damage", 200).unwrap();

    let again = b.prepare(wanted).await.unwrap();
    assert_eq!(id(&again), id(&image));
    assert!(b.get(id(&image), "raw", "").await.1 == source);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_away_costs_no_image() {
    let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let cache = Cache::start_in(tempfile::tempdir().unwrap(), |config| {
        config.peers = vec![format!("http://{away}")];
    })
    .await;
    let source = disk(72);
    let origin = Origin::start().await;
    let wanted = spec(&origin.put_bytes("disk", &source), &sha256(&source));
    let image = cache.prepare(wanted).await.unwrap();
    assert_eq!(image.urls, [cache.url(id(&image))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn caches_that_ask_for_signed_urls_read_from_each_other() {
    let keys = tempfile::tempdir().unwrap();
    let (a, b) = pair_with(&[key_file(keys.path(), b'a')]).await;
    let (origin, raw) = (Origin::start().await, disk(76));
    let wanted = spec(&origin.put_bytes("disk", &raw), &sha256(&raw));
    let image = a.prepare(wanted).await.unwrap();
    held(&b, id(&image)).await;
    assert_eq!(origin.requests("disk"), [""]);
    assert_eq!(b.get(id(&image), "pack", "").await.0.as_u16(), 403);
}
