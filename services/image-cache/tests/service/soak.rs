//! A small cache under everything at once: preparations, reads, evictions, damage and `kill -9`.
//!
//! `BESSEMER_SOAK_ROUNDS` says how many rounds; unset, it is as many as every run of the tests can
//! afford.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use bessemer_proto::v1;
use tonic::Code;

use crate::client::{error_info, id, list, prepare, spec, wait_for};
use crate::crash::Process;
use crate::images::{converted, disk, gzip, qcow2, sha256};
use crate::origin::Origin;

const ROUNDS_DEFAULT: u32 = 150;
/// Room for three or four of the images.
const LIMIT_BYTES: u64 = 6 << 20;
/// Files that the process may have open beside those of the connections to it.
const FILES_MAX: usize = 100;
/// Memory of an idle cache that has worked.
const RSS_MAX_BYTES: u64 = 256 << 20;

/// A source, and the disk that is in it.
struct Source {
    url: String,
    checksum: String,
    disk: Vec<u8>,
}

/// Numbers that look random and always are the same.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

fn sources(origin: &Origin) -> Vec<Source> {
    (0..10_usize)
        .map(|number| {
            let disk = disk(60 + number as u64);
            let content = match number % 4 {
                0 => disk.clone(),
                1 => qcow2(&disk, &["-c"]),
                2 => gzip(&disk),
                _ => converted(&disk, "vdi", &[]),
            };
            let url = origin.put_bytes(&format!("source-{number}"), &content);
            Source { url, checksum: sha256(&content), disk }
        })
        .collect()
}

fn stored_bytes(data: &Path) -> u64 {
    let images = data.join("images");
    list(&images)
        .iter()
        .filter_map(|name| fs::metadata(images.join(name)).ok())
        .map(|file| file.len())
        .sum()
}

/// Flips a bit in the middle of an image's pack.
fn damage(data: &Path, id: &str) {
    let path = data.join(format!("images/{id}.pack"));
    let Ok(pack) = File::options().read(true).write(true).open(path) else { return };
    let at = pack.metadata().unwrap().len() / 2;
    let mut byte = [0];
    pack.read_exact_at(&mut byte, at).unwrap();
    pack.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_the_limit_holds_and_nothing_wrong_is_served() {
    bessemer_runtime::install_tls_provider();
    let rounds = std::env::var("BESSEMER_SOAK_ROUNDS")
        .map_or(ROUNDS_DEFAULT, |rounds| rounds.parse().expect("BESSEMER_SOAK_ROUNDS is a number"));
    let (directory, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    let sources = sources(&origin);
    let data = directory.path().join("data");
    let config = format!("cache_limit_bytes = {LIMIT_BYTES}\nkeep_used_seconds = 0\n");
    let start = || Process::start_with(directory.path(), &config);
    let (mut process, mut client) = start().await;
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let http = reqwest::Client::new();
    // Where each source's image was served from last.
    let mut images: HashMap<usize, (String, String)> = HashMap::new();
    let (mut prepared, mut read, mut gone, mut killed) = (0, 0, 0, 0);
    for _ in 0..rounds {
        let number = dice.below(sources.len());
        let source = &sources[number];
        match dice.below(20) {
            0..9 => {
                let image = prepare(&client, spec(&source.url, &source.checksum)).await.unwrap();
                let bytes = stored_bytes(&data);
                assert!(bytes <= LIMIT_BYTES, "{bytes} bytes are stored");
                images.insert(number, (id(&image).to_owned(), image.urls[0].clone()));
                prepared += 1;
            }
            9..15 => {
                let Some((_, url)) = images.get(&number) else { continue };
                let answer = http.get(format!("{url}/raw")).send().await;
                let Ok(answer) = answer else { continue };
                let status = answer.status().as_u16();
                match answer.bytes().await {
                    Ok(raw) if status == 200 => {
                        assert!(raw == source.disk, "a wrong image was served");
                        read += 1;
                    }
                    // Dropped, being healed, given up, or cut off before a damaged frame.
                    Ok(_) => {
                        assert!(matches!(status, 404 | 410 | 503), "{status}");
                        gone += 1;
                    }
                    Err(_) => gone += 1,
                }
            }
            15..17 => {
                let Some((image, _)) = images.get(&number).cloned() else { continue };
                let request = v1::EvictImageRequest { image, force: false };
                match client.evict_image(request).await {
                    Ok(_) => {}
                    Err(status) => assert_eq!(status.code(), Code::NotFound, "{status}"),
                }
            }
            17 => {
                let Some((image, _)) = images.get(&number) else { continue };
                damage(&data, image);
            }
            _ => {
                let request = spec(&source.url, &source.checksum);
                let preparing = client.clone();
                let preparing = tokio::spawn(async move { prepare(&preparing, request).await });
                // At any point of it, or after it.
                tokio::time::sleep(Duration::from_millis(dice.below(60) as u64)).await;
                drop(process);
                let ended = preparing.await.unwrap();
                assert!(ended.as_ref().err().is_none_or(|e| e.code() == Code::Unavailable
                    || e.code() == Code::Unknown
                    || error_info(e).0 == "IMAGE_PREPARATION_LOST"));
                images.clear();
                (process, client) = start().await;
                assert!(stored_bytes(&data) <= LIMIT_BYTES);
                killed += 1;
            }
        }
    }
    println!("{prepared} prepared, {read} read, {gone} gone when read, {killed} times killed");
    assert!(prepared > 0 && read > 0 && killed > 0);
    // Nothing of it is left behind but downloads that can be resumed.
    wait_for("rest", || async { list(&data.join("staging")).is_empty().then_some(()) }).await;
    let answer = client.list_images(v1::ListImagesRequest {}).await.unwrap().into_inner();
    let ids: std::collections::BTreeSet<_> = answer.images.iter().map(id).collect();
    assert_eq!(list(&data.join("images")).len(), ids.len() * 2);
    assert!(process.open_files() <= FILES_MAX, "{} files are open", process.open_files());
    assert!(process.rss_bytes() <= RSS_MAX_BYTES, "{} bytes of memory", process.rss_bytes());
}
