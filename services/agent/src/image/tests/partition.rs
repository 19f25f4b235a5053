//! Images of one file system, onto disks that are divided for them. What comes out is judged by the usual tools.

use bessemer_proto::v1::PartitionLayout;

use super::*;

const MIB_BYTES: u64 = 1 << 20;

/// A root file system with what a distribution has in `/boot/efi`.
fn root_image(mebibytes: u64) -> Vec<u8> {
    let tree = tempfile::tempdir().unwrap();
    let write = |path: &str, content: &[u8]| {
        let path = tree.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    };
    write("etc/hostname", b"from-the-image\n");
    write("boot/efi/EFI/debian/shimx64.efi", &noise(1, 900_001));
    write("boot/efi/EFI/debian/grubx64.efi", &noise(2, 3 * MIB + 5));
    write("boot/efi/EFI/debian/grub.cfg", b"search --fs-uuid root\n");
    file_system(mebibytes, "ext4", Some(tree.path()))
}

fn file_system(mebibytes: u64, kind: &str, tree: Option<&Path>) -> Vec<u8> {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(mebibytes * MIB_BYTES).unwrap();
    let tree = tree.map(|tree| tree.display().to_string());
    let mut arguments = vec!["-q", "-F", "-t", kind, "-U", ROOT_UUID];
    arguments.extend(tree.as_deref().into_iter().flat_map(|tree| ["-d", tree]));
    run("mke2fs", &arguments, image.path());
    std::fs::read(image.path()).unwrap()
}

const ROOT_UUID: &str = "0ddba11c-0ffe-4e55-9a3f-8c0ffee0c0de";

fn task(image: &Prepared, origin: &Origin, partitions: PartitionLayout) -> WriteImageTask {
    WriteImageTask { partitions: Some(partitions), ..image.task(&[origin]) }
}

fn empty_disk(mebibytes: u64) -> tempfile::NamedTempFile {
    let disk = tempfile::NamedTempFile::new().unwrap();
    disk.as_file().set_len(mebibytes * MIB_BYTES).unwrap();
    disk
}

/// Where the partition named `name` is, in bytes, as sfdisk tells it.
fn partition(disk: &Path, name: &str) -> std::ops::Range<u64> {
    let dump = run("sfdisk", &["--dump"], disk);
    let line = dump
        .lines()
        .find(|line| line.contains(&format!("name=\"{name}\"")))
        .unwrap_or_else(|| panic!("no {name} in {dump}"));
    let number = |key: &str| -> u64 {
        let rest = line.split_once(key).unwrap().1.trim_start();
        rest.split(',').next().unwrap().trim().parse().unwrap()
    };
    let start = number("start=") * 512;
    start..start + number("size=") * 512
}

/// The bytes of a partition as a file of its own.
fn cut_out(disk: &Path, range: std::ops::Range<u64>) -> tempfile::NamedTempFile {
    use std::os::unix::fs::FileExt;
    let part = tempfile::NamedTempFile::new().unwrap();
    part.as_file().set_len(range.end - range.start).unwrap();
    let disk = std::fs::File::open(disk).unwrap();
    let mut buffer = vec![0; MIB];
    for at in range.clone().step_by(MIB) {
        let length = (range.end - at).min(MIB_BYTES) as usize;
        disk.read_exact_at(&mut buffer[..length], at).unwrap();
        if buffer[..length].iter().any(|byte| *byte != 0) {
            part.as_file().write_all_at(&buffer[..length], at - range.start).unwrap();
        }
    }
    part
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_system_becomes_the_root_of_a_disk_that_boots() {
    let image = Prepared::of(root_image(40));
    let origin = image.serve().await;
    let disk = empty_disk(2500);
    let layout = PartitionLayout {
        swap_mb: 32,
        ephemeral_gb: 1,
        ephemeral_format: "ext4".into(),
        ..PartitionLayout::default()
    };

    let report = write_to(disk.path(), task(&image, &origin, layout)).await.unwrap();

    assert_eq!(report.root_uuid, ROOT_UUID);
    assert_eq!(report.image_bytes, 40 * MIB_BYTES);
    let verdict = run("sgdisk", &["--verify"], disk.path());
    assert!(verdict.contains("No problems found"), "{verdict}");
    let dump = run("sfdisk", &["--dump"], disk.path());
    for kind in ["C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"] {
        assert!(dump.contains(kind), "{dump}");
    }

    let root = partition(disk.path(), "root");
    let written = cut_out(disk.path(), root.start..root.start + image.raw.len() as u64);
    assert!(std::fs::read(written.path()).unwrap() == image.raw, "root is not the image");
    let whole = cut_out(disk.path(), root);
    run("e2fsck", &["-f", "-n"], whole.path());

    let ephemeral = cut_out(disk.path(), partition(disk.path(), "ephemeral0"));
    run("e2fsck", &["-f", "-n"], ephemeral.path());
    let label = run("blkid", &["-p", "-o", "value", "-s", "LABEL"], ephemeral.path());
    assert_eq!(label.trim(), "ephemeral0");
    let swap = cut_out(disk.path(), partition(disk.path(), "swap"));
    let kind = run("blkid", &["-p", "-o", "value", "-s", "TYPE"], swap.path());
    assert_eq!(kind.trim(), "swap");
    let size = run("swaplabel", &[], swap.path());
    assert!(size.contains("LABEL: swap"), "{size}");

    let esp = cut_out(disk.path(), partition(disk.path(), "esp"));
    run("fsck.fat", &["-n"], esp.path());
    let boot = [
        ("::/EFI/BOOT/BOOTX64.EFI", noise(1, 900_001)),
        ("::/EFI/BOOT/grubx64.efi", noise(2, 3 * MIB + 5)),
        ("::/EFI/debian/shimx64.efi", noise(1, 900_001)),
        ("::/EFI/debian/grub.cfg", b"search --fs-uuid root\n".to_vec()),
    ];
    for (path, content) in boot {
        let output = Command::new("mtype").args(["-i"]).arg(esp.path()).arg(path).output().unwrap();
        assert!(output.status.success(), "{path}: {output:?}");
        assert!(output.stdout == content, "{path} differs");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ephemeral_holds_is_kept_only_where_it_is() {
    let image = Prepared::of(root_image(40));
    let origin = image.serve().await;
    let disk = empty_disk(3300);
    let layout = PartitionLayout {
        ephemeral_gb: 1,
        ephemeral_format: "vfat".into(),
        ..PartitionLayout::default()
    };
    let keep = PartitionLayout { preserve_ephemeral: true, ..layout.clone() };

    let error = write_to(disk.path(), task(&image, &origin, keep.clone())).await.unwrap_err();
    assert_eq!(error.reason(), "EPHEMERAL_NOT_FOUND");

    write_to(disk.path(), task(&image, &origin, layout.clone())).await.unwrap();
    let range = partition(disk.path(), "ephemeral0");
    let fresh = cut_out(disk.path(), range.clone());
    run("fsck.fat", &["-n"], fresh.path());
    put(disk.path(), range.start + 100 * MIB_BYTES, b"a user's data");

    write_to(disk.path(), task(&image, &origin, keep.clone())).await.unwrap();
    assert_eq!(get(disk.path(), range.start + 100 * MIB_BYTES, 13), b"a user's data");
    assert_eq!(partition(disk.path(), "ephemeral0"), range);

    // Another layout has it at the same place, but of another size.
    let other = PartitionLayout { ephemeral_gb: 2, ..keep };
    let error = write_to(disk.path(), task(&image, &origin, other)).await.unwrap_err();
    assert_eq!(error.reason(), "EPHEMERAL_NOT_FOUND");
    assert_eq!(get(disk.path(), range.start + 100 * MIB_BYTES, 13), b"a user's data");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_work_is_refused_by_name() {
    let whole = Prepared::of(partitioned_image(20));
    let bare = Prepared::of(file_system(20, "ext4", None));
    let root = Prepared::of(root_image(40));
    let cases: [(&Prepared, u64, Option<PartitionLayout>, &str, bool); 6] = [
        (&whole, 1000, Some(PartitionLayout::default()), "IMAGE_TYPE_MISMATCH", true),
        (&bare, 1000, None, "IMAGE_TYPE_MISMATCH", false),
        (&bare, 1000, Some(PartitionLayout::default()), "NO_BOOT_LOADER", false),
        (&root, 500, Some(PartitionLayout::default()), "PARTITIONS_LARGER_THAN_DISK", true),
        (&root, 640, Some(PartitionLayout::default()), "IMAGE_LARGER_THAN_DISK", true),
        (
            &root,
            1000,
            Some(PartitionLayout { ephemeral_format: "xfs".into(), ..Default::default() }),
            "INVALID_TASK",
            true,
        ),
    ];
    for (image, disk_mebibytes, partitions, reason, is_untouched) in cases {
        let origin = image.serve().await;
        let disk = empty_disk(disk_mebibytes);
        put(disk.path(), 0, b"what was there");
        let task = WriteImageTask { partitions, ..image.task(&[&origin]) };
        let error = write_to(disk.path(), task).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{error}");
        let is_there = get(disk.path(), 0, 14) == b"what was there";
        assert_eq!(is_there, is_untouched, "{error}");
        // Nothing by which a machine would boot.
        assert!(Table::read(&OpenDisk::open(disk.path()).unwrap()).unwrap().is_none());
    }
}

/// A boot loader's code behind the MBR happens to have the mark of a file system.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_with_an_mbr_is_a_disk_whatever_its_gap_looks_like() {
    let mut raw = noise(3, 4 * MIB);
    raw[446..512].fill(0);
    raw[446..462].copy_from_slice(&[0x80, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0]);
    raw[510..512].copy_from_slice(&[0x55, 0xaa]);
    raw[1080..1082].copy_from_slice(&[0x53, 0xef]);
    let image = Prepared::of(raw);
    let origin = image.serve().await;
    let disk = empty_disk(8);
    write_to(disk.path(), image.task(&[&origin])).await.unwrap();
    assert_holds(disk.path(), &image.raw);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raw_image_goes_to_the_root_partition_as_well() {
    let image = root_image(40);
    let origin = Origin::start([("/raw", image.clone())]).await;
    let task = WriteImageTask {
        partitions: Some(PartitionLayout { root_gb: 1, ..PartitionLayout::default() }),
        ..raw::task(&origin, raw::digest_of(&image, Algorithm::Sha256))
    };
    let disk = empty_disk(1800);
    let report = write_to(disk.path(), task).await.unwrap();
    assert_eq!(report.root_uuid, ROOT_UUID);
    let root = partition(disk.path(), "root");
    assert_eq!(root.end - root.start, 1 << 30);
    let written = cut_out(disk.path(), root.start..root.start + image.len() as u64);
    assert!(std::fs::read(written.path()).unwrap() == image, "root is not the image");
}

fn put(disk: &Path, offset: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let disk = std::fs::File::options().write(true).open(disk).unwrap();
    disk.write_all_at(bytes, offset).unwrap();
}

fn get(disk: &Path, offset: u64, length: usize) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; length];
    std::fs::File::open(disk).unwrap().read_exact_at(&mut bytes, offset).unwrap();
    bytes
}
