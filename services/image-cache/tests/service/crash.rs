//! Restarts, orderly and by `kill -9`.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bessemer_proto::v1;
use bessemer_proto::v1::image_service_client::ImageServiceClient;
use bytes::Bytes;
use tonic::transport::Channel;

use crate::client::{Cache, connect, id, list, prepare, spec, wait_for};
use crate::images::{disk, qcow2, sha256};
use crate::origin::{Origin, Served};

#[tokio::test(flavor = "multi_thread")]
async fn prepared_images_survive_a_restart_and_debris_does_not() {
    let cache = Cache::start().await;
    let (kept_disk, lost_disk) = (disk(50), disk(51));
    let kept = spec(&cache.local("kept", &kept_disk), "");
    let lost = spec(&cache.local("lost", &lost_disk), "");
    let image = cache.prepare(kept.clone()).await.unwrap();
    let lost_image = cache.prepare(lost.clone()).await.unwrap();
    let directory = cache.stop().await;
    let data = directory.path().join("data");
    // A pack that was cut, files of no entry, work in progress, an entry that is not JSON.
    let pack = data.join(format!("images/{}.pack", id(&lost_image)));
    std::fs::File::options().write(true).open(pack).unwrap().set_len(1000).unwrap();
    for debris in ["images/x.pack", "staging/x.pack", "downloads/x.part", "catalogue/x.json"] {
        std::fs::write(data.join(debris), b"debris").unwrap();
    }
    let cache = Cache::start_in(directory, |_| {}).await;
    assert_eq!(cache.stored("images").len(), 2);
    assert_eq!(cache.stored("catalogue").len(), 1);
    assert!(cache.stored("staging").is_empty() && cache.stored("downloads").is_empty());
    assert_eq!(cache.prepare(kept).await.unwrap(), image_at(&cache, image));
    assert_eq!(cache.get(id(&lost_image), "pack", "").await.0.as_u16(), 404);
    assert_eq!(id(&cache.prepare(lost).await.unwrap()), id(&lost_image));
}

/// The image as a restarted cache, which listens elsewhere, names it.
fn image_at(cache: &Cache, mut image: bessemer_proto::v1::Image) -> bessemer_proto::v1::Image {
    image.urls = vec![cache.url(id(&image))];
    image
}

/// A cache in a process of its own. Killed when dropped.
pub(crate) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Process {
    async fn start(directory: &Path) -> (Self, ImageServiceClient<Channel>) {
        Self::start_with(directory, "").await
    }

    /// Files that it has open.
    pub(crate) fn open_files(&self) -> usize {
        list(Path::new(&format!("/proc/{}/fd", self.0.id()))).len()
    }

    /// Memory that it holds now.
    pub(crate) fn rss_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// Starts one, with more configuration.
    pub(crate) async fn start_with(
        directory: &Path,
        more: &str,
    ) -> (Self, ImageServiceClient<Channel>) {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = directory.join("cache.toml");
        let data = directory.join("data");
        let text = format!(
            "data_dir = {data:?}\ngrpc_listen = \"{port}\"\nhttp_listen = \"127.0.0.1:0\"\n{more}"
        );
        std::fs::write(&config, text).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_bessemer-image-cache"))
            .arg("--config")
            .arg(&config)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut process = Self(child);
        // It listens before it has looked at what it holds, and answers afterwards.
        let client = wait_for("the cache's answer", || async {
            let mut client = connect(port).await.ok()?;
            client.list_images(v1::ListImagesRequest {}).await.ok()?;
            Some(client)
        });
        let client = tokio::select! {
            client = client => client,
            status = wait_for("exit", || std::future::ready(process.0.try_wait().unwrap())) => {
                let mut log = String::new();
                process.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
                panic!("the cache ended with {status}: {log}");
            }
        };
        (process, client)
    }
}

/// Killed in the middle of a download that stalls: the next process asks for the rest only.
#[tokio::test(flavor = "multi_thread")]
async fn a_download_is_resumed_after_kill_9() {
    let (directory, origin) = (tempfile::tempdir().unwrap(), Origin::start().await);
    let disk = disk(52);
    let source = qcow2(&disk, &[]);
    let content = Bytes::copy_from_slice(&source);
    let served = Served { content, etag: Some("\"1\""), ..Served::default() };
    let stored = source.len() / 2;
    let url = origin.put("disk", Served { stall_after: Some(stored), ..served.clone() });
    let request = || spec(&url, &sha256(&source));

    let (process, client) = Process::start(directory.path()).await;
    let preparing = tokio::spawn({
        let request = request();
        async move { prepare(&client, request).await }
    });
    let downloads = directory.path().join("data/downloads");
    wait_for("half of the download", || async {
        let part = list(&downloads).into_iter().find(|name| name.ends_with(".part"))?;
        let length = std::fs::metadata(downloads.join(part)).ok()?.len();
        (length == stored as u64).then_some(())
    })
    .await;
    drop(process);
    assert!(preparing.await.unwrap().is_err());

    origin.put("disk", served);
    let (_process, client) = Process::start(directory.path()).await;
    let image = prepare(&client, request()).await.unwrap();
    assert_eq!(image.resolved.unwrap().raw_hash_value, sha256(&disk));
    assert_eq!(origin.requests("disk"), ["".to_owned(), format!("bytes={stored}-")]);
    assert!(list(&downloads).is_empty());
}

/// The stored half is of another content: it is not used.
#[tokio::test(flavor = "multi_thread")]
async fn a_download_of_changed_content_begins_anew() {
    let (cache, origin) = (Cache::start().await, Origin::start().await);
    let (before, after) = (qcow2(&disk(53), &[]), qcow2(&disk(54), &[]));
    let digest = sha256(&after);
    let content = Bytes::copy_from_slice(&before);
    let stall_after = Some(before.len() / 2);
    let url = origin
        .put("disk", Served { content, etag: Some("\"1\""), stall_after, ..Served::default() });
    let request = spec(&url, &digest);
    let client = cache.grpc.clone();
    let preparing = tokio::spawn({
        let request = request.clone();
        async move { prepare(&client, request).await }
    });
    wait_for("half of the download", || async {
        (cache.stored("downloads").len() == 2).then_some(())
    })
    .await;
    let directory = cache.stop().await;
    assert!(preparing.await.unwrap().is_err());

    let content = Bytes::copy_from_slice(&after);
    origin.put("disk", Served { content, etag: Some("\"2\""), ..Served::default() });
    let cache = Cache::start_in(directory, |_| {}).await;
    cache.prepare(request).await.unwrap();
}
