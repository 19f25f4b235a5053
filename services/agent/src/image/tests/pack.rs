//! Prepared images.

use super::*;

/// Room for what is no data: the manifest, the frames of short zero runs that are read over.
const OVERHEAD_BYTES: u64 = 16 * 1024;

/// What the server may have taken from the origin and not yet sent when it cuts a connection.
const UNSENT_BYTES: usize = MIB / 2;

fn data_bytes(image: &Prepared) -> u64 {
    let data = image.manifest.chunks().filter(|chunk| !chunk.is_zero);
    data.map(|chunk| chunk.frame_bytes as u64).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_written_whole_and_only_its_data_travels() {
    let image = Prepared::of(partitioned_image(40));
    let origin = image.serve().await;
    let disk = used_disk(40);

    let report = write_to(disk.path(), image.task(&[&origin])).await.unwrap();

    assert_holds(disk.path(), &image.raw);
    run("sgdisk", &["--verify"], disk.path());
    assert_eq!(report.image_bytes, 40 * MIB as u64);
    assert_eq!((report.refused_chunks, report.resumed_bytes), (0, 0));
    assert!(report.wire_bytes <= data_bytes(&image) + OVERHEAD_BYTES, "{}", report.wire_bytes);
    assert!(report.agent_peak_rss_bytes > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_length_of_an_image_may_be_anything() {
    for length in [1, 511, 4096, MIB, MIB + 1, 2 * MIB, 3 * MIB + 777] {
        let image = Prepared::of(noise(7, length));
        let origin = image.serve().await;
        let disk = used_disk(5);
        write_to(disk.path(), image.task(&[&origin])).await.unwrap();
        assert_holds(disk.path(), &image.raw);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_larger_disk_the_backup_table_moves_to_its_end() {
    let image = Prepared::of(partitioned_image(20));
    let origin = image.serve().await;
    let disk = used_disk(50);

    write_to(disk.path(), image.task(&[&origin])).await.unwrap();

    let verdict = run("sgdisk", &["--verify"], disk.path());
    assert!(verdict.contains("No problems found"), "{verdict}");
    let dump = run("sfdisk", &["--dump"], disk.path());
    assert!(dump.contains("name=\"root\""), "{dump}");
    let content = std::fs::read(disk.path()).unwrap();
    // All but the two tables is the image's.
    assert!(content[34 * 512..19 * MIB] == image.raw[34 * 512..19 * MIB]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_does_not_fit_is_refused_before_anything_is_touched() {
    let image = Prepared::of(partitioned_image(20));
    let origin = image.serve().await;
    let disk = used_disk(19);
    let before = std::fs::read(disk.path()).unwrap();

    let error = write_to(disk.path(), image.task(&[&origin])).await.unwrap_err();

    assert_eq!(error.reason(), "IMAGE_LARGER_THAN_DISK");
    let (image_bytes, disk_bytes) = ((20 * MIB).to_string(), (19 * MIB).to_string());
    let message = error.to_string();
    assert!(message.contains(&image_bytes) && message.contains(&disk_bytes), "{message}");
    assert!(before == std::fs::read(disk.path()).unwrap(), "the disk was touched");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_connections_cost_a_chunk_each_and_never_leave_a_table() {
    let image = Prepared::of(partitioned_image(60));
    // 8 times 13 cuts.
    for seed in 0..8 {
        let origin = image.serve().await;
        let disk = used_disk(60);
        let path = disk.path().to_owned();
        origin.watch(move || assert!(!has_table(&path), "a table before the end"));
        let places: Vec<usize> = noise(seed, 8 * 13)
            .chunks(8)
            .map(|place| u64::from_le_bytes(place.try_into().unwrap()) as usize % (4 * MIB))
            .collect();
        let faults = places.iter().enumerate().map(|(number, &place)| match number % 4 {
            0..=2 => Fault::CutAfter(place),
            _ => Fault::ShortBy(place),
        });
        origin.add_faults(faults);

        let report = write_to(disk.path(), image.task(&[&origin])).await.unwrap();

        assert_holds(disk.path(), &image.raw);
        run("sgdisk", &["--verify"], disk.path());
        let repeated = places.len() * (CHUNK_BYTES + UNSENT_BYTES);
        assert!(report.wire_bytes <= data_bytes(&image) + repeated as u64 + OVERHEAD_BYTES);
        let served = origin.served();
        let requests: Vec<_> = served.iter().filter(|served| served.path == "/pack").collect();
        for [cut, next] in requests.array_windows() {
            let goes_on = next.range.start + CHUNK_BYTES + UNSENT_BYTES >= cut.range.end;
            assert!(goes_on, "{next:?} after {cut:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_chunk_is_refused_and_fetched_again() {
    let image = Prepared::of(partitioned_image(30));
    let origin = image.serve().await;
    for (index, times) in [(0, 1), (4, 1), (10, 3)] {
        let chunk = image.manifest.chunk(ChunkIndex(index)).unwrap();
        let middle = chunk.frame_offset_bytes as usize + chunk.frame_bytes / 2;
        origin.damage("/pack", middle, times);
    }
    let disk = used_disk(30);

    let report = write_to(disk.path(), image.task(&[&origin])).await.unwrap();

    assert_holds(disk.path(), &image.raw);
    assert_eq!(report.refused_chunks, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_that_is_always_damaged_fails_the_task_and_is_never_written() {
    let image = Prepared::of(partitioned_image(30));
    let origin = image.serve().await;
    let chunk = image.manifest.chunk(ChunkIndex(4)).unwrap();
    origin.damage("/pack", chunk.frame_offset_bytes as usize + 9, u32::MAX);
    let disk = used_disk(30);
    let before = std::fs::read(disk.path()).unwrap();

    let error = write_to(disk.path(), image.task(&[&origin])).await.unwrap_err();

    assert_eq!(error.reason(), "CHUNK_REFUSED");
    let message = error.to_string();
    assert!(message.contains("chunk 4") && message.contains(&origin.url), "{message}");
    let after = std::fs::read(disk.path()).unwrap();
    assert!(after[4 * MIB..5 * MIB] == before[4 * MIB..5 * MIB], "an unverified chunk was written");
    assert!(!has_table(disk.path()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_source_serves_what_one_cannot() {
    let image = Prepared::of(partitioned_image(30));
    let (bad, good) = (image.serve().await, image.serve().await);
    let chunk = image.manifest.chunk(ChunkIndex(4)).unwrap();
    bad.damage("/pack", chunk.frame_offset_bytes as usize + 9, u32::MAX);
    let disk = used_disk(30);
    write_to(disk.path(), image.task(&[&bad, &good])).await.unwrap();
    assert_holds(disk.path(), &image.raw);

    // One that is gone, and one that has given up.
    let given_up = image.serve().await;
    given_up.add_faults([Fault::Status(410, r#"{"reason":"PACK_LOST","message":"no source"}"#)]);
    let mut gone = given_up.clone();
    gone.url = "http://127.0.0.1:1".to_owned();
    let disk = used_disk(30);
    write_to(disk.path(), image.task(&[&given_up, &gone, &good])).await.unwrap();
    assert_holds(disk.path(), &image.raw);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_heals_is_waited_for_and_one_that_cannot_is_believed() {
    let image = Prepared::of(partitioned_image(30));
    let origin = image.serve().await;
    origin.add_faults([Fault::Status(503, ""), Fault::CutAfter(100), Fault::Status(502, "proxy")]);
    let disk = used_disk(30);
    write_to(disk.path(), image.task(&[&origin])).await.unwrap();
    assert_holds(disk.path(), &image.raw);

    let verdict = r#"{"reason":"SOURCE_CHANGED","message":"the source is another one now"}"#;
    origin.add_faults([Fault::CutAfter(3 * MIB), Fault::Status(502, verdict)]);
    let error = write_to(disk.path(), image.task(&[&origin])).await.unwrap_err();
    assert_eq!(error.reason(), "SOURCE_CORRUPT");
    assert!(error.to_string().contains("another one now"), "{error}");
    assert!(!has_table(disk.path()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_of_another_image_is_refused() {
    let (image, other) = (Prepared::of(partitioned_image(20)), Prepared::of(noise(3, 20 * MIB)));
    let origin = other.serve().await;
    let disk = used_disk(20);
    let error = write_to(disk.path(), image.task(&[&origin])).await.unwrap_err();
    assert_eq!(error.reason(), "SOURCE_CORRUPT");
    assert!(has_table(disk.path()), "the disk was touched");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_write_leaves_no_table_and_is_resumed_where_it_was() {
    let image = Prepared::of(partitioned_image(120));
    let origin = image.serve().await;
    let disk = used_disk(120);
    // The first connection dies half way; then nothing answers until the write is stopped.
    let half = image.pack.len() / 2;
    origin.add_faults([Fault::CutAfter(half)]);
    origin.add_faults(std::iter::repeat_n(Fault::Status(503, ""), 1000));
    let writing = begin(disk.path(), image.task(&[&origin]), false);
    // What is empty, 80 MiB, may all be done before what is not.
    let reached = async {
        while writing.meter.done_bytes() < 88 * MIB as u64 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("half of it is never written");
    writing.stop.cancel();
    let error = writing.work.await.unwrap().unwrap_err();
    assert_eq!(error.reason(), "CANCELLED");
    assert!(!has_table(disk.path()));
    // Somebody else writes to a chunk that was right.
    let mut content = std::fs::read(disk.path()).unwrap();
    content[4 * MIB + 5] ^= 1;
    std::fs::write(disk.path(), content).unwrap();

    let again = image.serve().await;
    let report = begin(disk.path(), image.task(&[&again]), true).work.await.unwrap().unwrap();

    assert_holds(disk.path(), &image.raw);
    run("sgdisk", &["--verify"], disk.path());
    assert!(report.resumed_bytes >= 5 * MIB as u64, "{report:?}");
    assert!(report.wire_bytes + report.resumed_bytes / 2 < data_bytes(&image), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_tasks_are_named() {
    let image = Prepared::of(noise(3, MIB));
    let origin = image.serve().await;
    let disk = used_disk(5);
    let with = |change: &dyn Fn(&mut PackSource)| {
        let mut task = image.task(&[&origin]);
        if let Some(Source::Pack(pack)) = &mut task.source {
            change(pack);
        }
        task
    };
    let cases: [(WriteImageTask, &str); 5] = [
        (WriteImageTask::default(), "source"),
        (with(&|pack| pack.manifest_digest.truncate(31)), "31"),
        (with(&|pack| pack.urls.clear()), "urls"),
        (with(&|pack| pack.urls = vec!["not a url".to_owned()]), "not a url"),
        (with(&|pack| pack.raw_size_bytes = 0), "image size"),
    ];
    for (task, named) in cases {
        let error = write_to(disk.path(), task).await.unwrap_err();
        assert_eq!(error.reason(), "INVALID_TASK");
        assert!(error.to_string().contains(named), "{error}");
    }
}

/// The next version of an image is in large part the one before. So is the same image again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_disk_holds_already_does_not_travel() {
    let before = Prepared::of(noise(5, 150 * MIB));
    let mut raw = before.raw.clone();
    for changed in [20 * MIB, 21 * MIB, 99 * MIB + 4096] {
        raw[changed..changed + 5000].copy_from_slice(&noise(6, 5000));
    }
    let after = Prepared::of(raw);
    let disk = used_disk(150);
    // Both ends are wiped and written anew, and what changed is.
    let anew_bytes = 5 * MIB as u64;
    for (image, most_bytes) in [
        (&before, u64::MAX),
        (&after, anew_bytes + OVERHEAD_BYTES + MIB as u64),
        (&after, anew_bytes),
    ] {
        let origin = image.serve().await;
        let report = write_to(disk.path(), image.task(&[&origin])).await.unwrap();
        assert_holds(disk.path(), &image.raw);
        assert!(report.wire_bytes <= most_bytes, "{report:?}");
        assert!(most_bytes == u64::MAX || report.resumed_bytes >= 144 * MIB as u64, "{report:?}");
    }
}

/// Half of the old content is another's: the rest is found behind a long stretch that is wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_of_an_image_is_found_wherever_it_is() {
    let image = Prepared::of(noise(5, 200 * MIB));
    let disk = used_disk(200);
    let mut content = std::fs::read(disk.path()).unwrap();
    content[120 * MIB..].copy_from_slice(&image.raw[120 * MIB..]);
    std::fs::write(disk.path(), content).unwrap();
    let origin = image.serve().await;
    let report = write_to(disk.path(), image.task(&[&origin])).await.unwrap();
    assert_holds(disk.path(), &image.raw);
    assert!(report.resumed_bytes >= 78 * MIB as u64, "{report:?}");
}

/// A 4Kn disk would look for the table where the image has none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_for_other_sectors_is_refused_before_the_disk_is_touched() {
    let image = Prepared::of(partitioned_image(4));
    let origin = image.serve().await;
    // A damaged answer is not what the image says.
    origin.damage("/pack", 100, 1);
    let disk = used_disk(5);
    let before = std::fs::read(disk.path()).unwrap();
    let open = OpenDisk::open(disk.path()).unwrap().with_sectors_of(4096);
    let target = Arc::new(super::super::Target::whole(open));
    let Some(Source::Pack(pack)) = image.task(&[&origin]).source else { panic!() };
    bessemer_runtime::install_tls_provider();
    let (meter, stop) = (Arc::new(Meter::default()), CancellationToken::new());
    let client =
        super::super::HttpClient::new(&bessemer_runtime::tls::Transport::plain(), &meter).unwrap();
    let (_unchanged, urls) = watch::channel(pack.urls.clone());
    let write = super::super::write_pack(&target, &pack, false, urls, &client, &meter, &stop);
    let error = write.await.unwrap_err();
    assert_eq!(error.reason(), "IMAGE_SECTOR_SIZE");
    let said = error.to_string();
    assert!(said.contains("sectors of 512 bytes") && said.contains("have 4096"), "{said}");
    assert!(std::fs::read(disk.path()).unwrap() == before);
}

/// The only cache that the agent knows dies in the middle; the conductor tells it of another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_goes_on_at_a_server_that_the_agent_is_told_of_later() {
    let image = Prepared::of(partitioned_image(60));
    let (first, second) = (image.serve().await, image.serve().await);
    let dead = std::iter::repeat_n(Fault::Status(503, "dead"), 100_000);
    first.add_faults(std::iter::once(Fault::CutAfter(5 * MIB)).chain(dead));
    let (asked, mut asking) = watch::channel(0);
    first.watch(move || asked.send_modify(|times| *times += 1));
    let disk = used_disk(60);

    let writing = begin(disk.path(), image.task(&[&first]), false);
    asking.wait_for(|times| *times >= 3).await.unwrap();
    writing.urls.send_replace(vec![second.url.clone()]);
    let report = writing.work.await.unwrap().unwrap();

    assert_holds(disk.path(), &image.raw);
    let sent_again = report.wire_bytes.saturating_sub(data_bytes(&image) + OVERHEAD_BYTES);
    assert!(sent_again <= MIB as u64 + UNSENT_BYTES as u64, "{sent_again} bytes sent again");
}

/// Each server sends a part; what a lost one had begun comes from the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_share_the_work_and_a_lost_ones_part_goes_to_the_others() {
    let image = Prepared::of(noise(11, 320 * MIB));
    let (first, second) = (image.serve().await, image.serve().await);
    let dead = std::iter::repeat_n(Fault::Status(503, "dead"), 100_000);
    second.add_faults(std::iter::once(Fault::CutAfter(20 * MIB)).chain(dead));
    let disk = used_disk(320);

    let report = write_to(disk.path(), image.task(&[&first, &second])).await.unwrap();

    assert_holds(disk.path(), &image.raw);
    let sent = |origin: &Origin| -> usize {
        let served = origin.served();
        served.iter().filter(|it| it.path == "/pack").map(|it| it.range.len()).sum()
    };
    assert!((19 * MIB..21 * MIB).contains(&sent(&second)), "{} bytes", sent(&second));
    assert!(sent(&first) >= 299 * MIB, "{} bytes", sent(&first));
    let sent_again = report.wire_bytes.saturating_sub(data_bytes(&image) + OVERHEAD_BYTES);
    assert!(sent_again <= (MIB + UNSENT_BYTES) as u64, "{sent_again} bytes sent again");
}
