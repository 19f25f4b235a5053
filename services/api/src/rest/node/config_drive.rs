//! Config drives in the forms that Ironic's clients send: the documents as JSON, or a finished volume, gzipped and in
//! base64.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bessemer_configdrive::{MAX_SIZE_BYTES, read_file};
use bessemer_domain::node::JsonMap;
use bessemer_proto::v1;
use bessemer_wire::json;
use flate2::read::GzDecoder;
use serde_json::Value;

use crate::rest::fault::Fault;

/// The documents that are taken, and where a volume has them.
const META_DATA: &str = "openstack/latest/meta_data.json";
const NETWORK_DATA: &str = "openstack/latest/network_data.json";
const USER_DATA: &str = "openstack/latest/user_data";
const VENDOR_DATA: [&str; 2] =
    ["openstack/latest/vendor_data2.json", "openstack/latest/vendor_data.json"];

/// The config drive; none when there is nothing.
pub(super) fn read(given: &Value) -> Result<Option<v1::ConfigDrive>, Fault> {
    match given {
        Value::Null => Ok(None),
        Value::String(text) if text.trim().is_empty() => Ok(None),
        Value::String(url) if url.contains("://") => Err(wrong(
            "is a URL, which is not fetched: send what is there, as base64 or as an object of meta_data, \
             network_data, user_data and vendor_data",
        )),
        Value::String(text) => volume(text).map(Some),
        Value::Object(documents) => of_documents(documents).map(Some),
        _ => Err(wrong("is neither a text nor an object")),
    }
}

fn wrong(what: &str) -> Fault {
    Fault::bad_request(format!("configdrive {what}"))
}

fn of_documents(documents: &JsonMap) -> Result<v1::ConfigDrive, Fault> {
    let known = ["meta_data", "network_data", "user_data", "vendor_data"];
    if let Some(key) = documents.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(wrong(&format!("holds `{key}`; there are: {}", known.join(", "))));
    }
    let object = |key: &str| match documents.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(object)) => Ok(Some(json::to_proto(object))),
        Some(_) => Err(wrong(&format!("has a {key} that is not an object"))),
    };
    Ok(v1::ConfigDrive {
        meta_data: object("meta_data")?,
        network_data: object("network_data")?,
        user_data: match documents.get("user_data") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::String(text)) => text.clone().into_bytes(),
            Some(structured @ (Value::Object(_) | Value::Array(_))) => {
                structured.to_string().into_bytes()
            }
            Some(_) => return Err(wrong("has a user_data that is neither a text nor an object")),
        },
        vendor_data: object("vendor_data")?,
    })
}

/// Takes a volume apart: what is in it is checked now, and built anew when it is written.
fn volume(text: &str) -> Result<v1::ConfigDrive, Fault> {
    let mut encoded = text.as_bytes().to_vec();
    encoded.retain(|byte| !byte.is_ascii_whitespace());
    let zipped = BASE64
        .decode(encoded)
        .map_err(|error| wrong(&format!("is neither a URL nor base64: {error}")))?;
    let mut iso = Vec::new();
    let size_max = MAX_SIZE_BYTES;
    GzDecoder::new(zipped.as_slice())
        .take(size_max + 1)
        .read_to_end(&mut iso)
        .map_err(|error| wrong(&format!("is not gzipped: {error}")))?;
    if iso.len() as u64 > size_max {
        return Err(wrong(&format!("is larger than {size_max} bytes once it is unzipped")));
    }
    let file = |path: &str| read_file(&iso, path).ok();
    let object = |path: &str| -> Result<Option<JsonMap>, Fault> {
        let Some(bytes) = file(path) else { return Ok(None) };
        let object = serde_json::from_slice(&bytes);
        object.map(Some).map_err(|error| wrong(&format!("has a {path} that is wrong: {error}")))
    };
    let meta_data = object(META_DATA)?.ok_or_else(|| {
        wrong(&format!(
            "is not an ISO 9660 volume with a file {META_DATA}; other kinds are not read"
        ))
    })?;
    let [newer, older] = VENDOR_DATA;
    let vendor_data = object(newer)?.map_or_else(|| object(older), |it| Ok(Some(it)))?;
    Ok(v1::ConfigDrive {
        meta_data: Some(json::to_proto(&meta_data)),
        network_data: object(NETWORK_DATA)?.as_ref().map(json::to_proto),
        user_data: file(USER_DATA).unwrap_or_default(),
        vendor_data: vendor_data.as_ref().map(json::to_proto),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use bessemer_configdrive::ConfigDrive;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use serde_json::json;

    use super::*;

    fn zipped(bytes: &[u8]) -> String {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        BASE64.encode(encoder.finish().unwrap())
    }

    fn documents() -> Value {
        json!({
            "meta_data": {"hostname": "n1"}, "network_data": {"links": []},
            "user_data": "#cloud-config\n", "vendor_data": {"a": 1},
        })
    }

    #[test]
    fn a_volume_and_its_documents_are_the_same_drive() {
        let object = |key: &str| documents()[key].as_object().unwrap().clone();
        let drive = ConfigDrive {
            meta_data: object("meta_data"),
            network_data: Some(object("network_data")),
            user_data: b"#cloud-config\n".to_vec(),
            vendor_data: Some(object("vendor_data")),
        };
        let mut text = zipped(&drive.build().unwrap());
        text.insert(76, '\n');
        let of_volume = read(&json!(text)).unwrap().unwrap();
        assert_eq!(of_volume, read(&documents()).unwrap().unwrap());
        assert_eq!(of_volume.user_data, b"#cloud-config\n");
    }

    #[test]
    fn what_is_no_config_drive_is_refused() {
        for nothing in [json!(null), json!(""), json!(" \n")] {
            assert_eq!(read(&nothing).unwrap(), None);
        }
        let cases = [
            json!("http://server/drive.iso.gz"),
            json!("*** no base64 ***"),
            json!(BASE64.encode("not gzipped")),
            json!(zipped(b"not a volume")),
            json!(zipped(&vec![0; usize::try_from(MAX_SIZE_BYTES).unwrap() + 1])),
            json!({"meta_data": 7}),
            json!({"metadata": {}}),
            json!({"user_data": 7}),
            json!([]),
            json!(7),
        ];
        for case in cases {
            assert!(read(&case).unwrap_err().message().starts_with("configdrive "), "{case}");
        }
    }
}
