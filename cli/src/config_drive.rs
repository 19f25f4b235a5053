//! The config drive on the command line: a JSON file, a directory in OpenStack's layout, or its parts.

use std::path::{Path, PathBuf};

use bessemer_proto::v1::ConfigDrive;
use prost_types::Struct;
use serde::Deserialize;

use crate::arguments::{KeyValue, to_proto, to_struct};
use crate::failure::Failure;

/// Largest file that is read for a config drive; the ledger takes no more than 1 MiB in all.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// First-boot configuration of what is deployed.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ConfigDriveArguments {
    /// JSON file with meta_data, network_data, user_data and vendor_data, or a directory with meta_data.json, user_data
    /// and so on, in it or in openstack/latest
    #[arg(long, value_name = "FILE.json|DIR", help_heading = "Config drive")]
    config_drive: Option<PathBuf>,
    /// User data, such as a cloud-config
    #[arg(long, value_name = "FILE", help_heading = "Config drive")]
    user_data: Option<PathBuf>,
    /// Key of the meta data, such as `hostname`; repeatable
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Config drive")]
    meta_data: Vec<KeyValue>,
}

/// The JSON file, with Ironic's keys. User data is text, or an object that is kept as JSON text.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Document {
    meta_data: Option<serde_json::Map<String, serde_json::Value>>,
    network_data: Option<serde_json::Map<String, serde_json::Value>>,
    user_data: Option<serde_json::Value>,
    vendor_data: Option<serde_json::Map<String, serde_json::Value>>,
}

impl ConfigDriveArguments {
    /// Whether nothing was given.
    pub(crate) fn is_empty(&self) -> bool {
        self.config_drive.is_none() && self.user_data.is_none() && self.meta_data.is_empty()
    }

    /// Reads the files; none when nothing was given. What is given by itself wins over the file or directory.
    pub(crate) fn read(&self) -> Result<Option<ConfigDrive>, Failure> {
        if self.is_empty() {
            return Ok(None);
        }
        let mut drive = match &self.config_drive {
            None => ConfigDrive::default(),
            Some(path) if path.is_dir() => from_directory(path)?,
            Some(path) => from_document(path)?,
        };
        if let Some(path) = &self.user_data {
            drive.user_data = read(path)?;
        }
        if !self.meta_data.is_empty() {
            let meta_data = drive.meta_data.get_or_insert_default();
            meta_data.fields.extend(
                self.meta_data.iter().map(|pair| (pair.key.clone(), to_proto(&pair.value))),
            );
        }
        Ok(Some(drive))
    }
}

fn from_document(path: &Path) -> Result<ConfigDrive, Failure> {
    let document: Document = serde_json::from_slice(&read(path)?).map_err(|error| {
        Failure::refused(format!("config drive {} is wrong: {error}", path.display()))
    })?;
    let user_data = match document.user_data {
        None | Some(serde_json::Value::Null) => Vec::new(),
        Some(serde_json::Value::String(text)) => text.into_bytes(),
        Some(other) => other.to_string().into_bytes(),
    };
    Ok(ConfigDrive {
        meta_data: document.meta_data.as_ref().map(to_struct),
        network_data: document.network_data.as_ref().map(to_struct),
        user_data,
        vendor_data: document.vendor_data.as_ref().map(to_struct),
    })
}

fn from_directory(path: &Path) -> Result<ConfigDrive, Failure> {
    let latest = path.join("openstack/latest");
    let directory = if latest.is_dir() { latest } else { path.to_owned() };
    let drive = ConfigDrive {
        meta_data: json_file(&directory.join("meta_data.json"))?,
        network_data: json_file(&directory.join("network_data.json"))?,
        user_data: if_there(&directory.join("user_data"))?.unwrap_or_default(),
        vendor_data: json_file(&directory.join("vendor_data.json"))?,
    };
    if drive == ConfigDrive::default() {
        return Err(Failure::refused(format!(
            "config drive {} holds none of meta_data.json, network_data.json, user_data and vendor_data.json",
            directory.display()
        )));
    }
    Ok(drive)
}

fn json_file(path: &Path) -> Result<Option<Struct>, Failure> {
    let Some(bytes) = if_there(path)? else { return Ok(None) };
    let object: serde_json::Map<_, _> = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::refused(format!("{} is wrong: {error}", path.display())))?;
    Ok(Some(to_struct(&object)))
}

fn if_there(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    if path.exists() { read(path).map(Some) } else { Ok(None) }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let size = std::fs::metadata(path)
        .map_err(|error| Failure::refused(format!("cannot read {}: {error}", path.display())))?
        .len();
    if size > FILE_BYTES_MAX {
        let message = format!(
            "{} has {size} bytes; a config drive takes {FILE_BYTES_MAX} at most",
            path.display()
        );
        return Err(
            Failure::refused(message).hint("put it behind a URL and name that in user data")
        );
    }
    std::fs::read(path)
        .map_err(|error| Failure::refused(format!("cannot read {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn parts_win_over_the_document_and_merge_into_its_meta_data() {
        let home = tempfile::tempdir().unwrap();
        let (document, user_data) = (home.path().join("drive.json"), home.path().join("user"));
        let json = r#"{"meta_data": {"hostname": "a", "uuid": "1"}, "user_data": "old", "network_data": {}}"#;
        fs::write(&document, json).unwrap();
        fs::write(&user_data, "#cloud-config\n").unwrap();
        let drive = ConfigDriveArguments {
            config_drive: Some(document),
            user_data: Some(user_data),
            meta_data: vec!["hostname=b".parse().unwrap()],
        };
        let drive = drive.read().unwrap().unwrap();
        assert_eq!(drive.user_data, b"#cloud-config\n");
        let meta_data = drive.meta_data.unwrap().fields;
        assert_eq!(meta_data["hostname"], to_proto(&"b".into()));
        assert_eq!(meta_data["uuid"], to_proto(&"1".into()));
        assert_eq!(drive.network_data, Some(Struct::default()));
        assert_eq!(drive.vendor_data, None);
    }

    #[test]
    fn a_directory_is_read_in_either_layout() {
        for layout in ["", "openstack/latest"] {
            let home = tempfile::tempdir().unwrap();
            let directory = home.path().join(layout);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("meta_data.json"), r#"{"hostname": "a"}"#).unwrap();
            fs::write(directory.join("user_data"), "hello").unwrap();
            let drive = from_directory(home.path()).unwrap();
            assert_eq!(drive.user_data, b"hello");
            assert_eq!(drive.meta_data.unwrap().fields.len(), 1);
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_with_its_path() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("drive.json");
        for (content, said) in [
            (r#"{"user-data": ""}"#, "unknown field `user-data`"),
            ("7", "is wrong"),
            ("{", "is wrong"),
        ] {
            fs::write(&path, content).unwrap();
            let error = from_document(&path).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("drive.json"), "{error}");
        }
        let error = from_directory(home.path()).unwrap_err().to_string();
        assert!(error.contains("holds none of meta_data.json"), "{error}");
        let error = from_document(&home.path().join("gone")).unwrap_err().to_string();
        assert!(error.contains("cannot read") && error.contains("gone"), "{error}");
    }

    #[test]
    fn nothing_given_is_no_config_drive() {
        assert_eq!(ConfigDriveArguments::default().read().unwrap(), None);
    }
}
