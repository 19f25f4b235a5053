//! Build and read back: content, reproducibility, the size limit, damaged volumes.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use bessemer_configdrive::{BuildError, ConfigDrive, MAX_SIZE_BYTES, ReadError, read_file};
use serde_json::json;

fn with_user_data(user_data: Vec<u8>) -> ConfigDrive {
    ConfigDrive {
        meta_data: json!({"uuid": "5f0c"}).as_object().unwrap().clone(),
        user_data,
        ..ConfigDrive::default()
    }
}

#[test]
fn documents_come_back() {
    let iso = with_user_data(b"#cloud-config\n\xff\x00".to_vec()).build().unwrap();

    assert_eq!(read_file(&iso, "openstack/latest/meta_data.json").unwrap(), br#"{"uuid":"5f0c"}"#);
    assert_eq!(read_file(&iso, "/openstack/latest/user_data").unwrap(), b"#cloud-config\n\xff\x00");
    assert_eq!(
        read_file(&iso, "openstack/2012-08-10/user_data").unwrap(),
        b"#cloud-config\n\xff\x00"
    );
}

#[test]
fn documents_not_given_are_left_out() {
    let iso = with_user_data(Vec::new()).build().unwrap();
    for name in ["user_data", "network_data.json", "vendor_data2.json"] {
        let error = read_file(&iso, &format!("openstack/latest/{name}")).unwrap_err();
        assert!(matches!(error, ReadError::File { .. }), "{name}: {error}");
    }
}

/// The partition is larger than the volume; what follows the volume must not matter.
#[test]
fn bytes_behind_the_volume_are_ignored() {
    let mut iso = with_user_data(b"x".to_vec()).build().unwrap();
    iso.extend([0xa5; 70_001]);
    assert_eq!(read_file(&iso, "openstack/latest/user_data").unwrap(), b"x");
}

#[test]
fn the_same_documents_give_the_same_bytes() {
    let drive = with_user_data(vec![7; 5000]);
    assert_eq!(drive.build().unwrap(), drive.build().unwrap());
    assert_ne!(drive.build().unwrap(), with_user_data(vec![8; 5000]).build().unwrap());
}

/// User data is stored once however many versions list it, so nearly all of the limit is usable.
#[test]
fn the_limit_is_on_the_volume() {
    let overhead = with_user_data(vec![0; 1]).build().unwrap().len() as u64 - 2048;
    let largest = usize::try_from(MAX_SIZE_BYTES - overhead).unwrap();

    assert_eq!(with_user_data(vec![1; largest]).build().unwrap().len() as u64, MAX_SIZE_BYTES);
    match with_user_data(vec![1; largest + 1]).build().unwrap_err() {
        BuildError::TooLarge { size_bytes, limit_bytes, user_data_bytes } => {
            assert!(size_bytes > limit_bytes);
            assert_eq!(user_data_bytes, largest as u64 + 1);
        }
        other @ BuildError::Layout { .. } => panic!("{other}"),
    }
}

/// Truncated and overwritten volumes give an error or the right bytes, never a panic.
#[test]
fn damaged_volumes_are_refused() {
    let iso = with_user_data(vec![3; 9000]).build().unwrap();
    for length in (0..iso.len()).step_by(1024) {
        let _ = read_file(&iso[..length], "openstack/latest/user_data");
    }
    for position in (16 * 2048..iso.len()).step_by(61) {
        let mut damaged = iso.clone();
        damaged[position] = 0xff;
        let _ = read_file(&damaged, "openstack/latest/user_data");
    }
    assert!(matches!(
        read_file(&iso[..16 * 2048], "openstack/latest/user_data"),
        Err(ReadError::Volume { .. })
    ));
}
