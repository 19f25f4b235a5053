//! Simulated machines: enrolled in bulk, for `dev` and `demo`.

use bessemer_client::Client;
use bessemer_proto::v1::{CreateNodeRequest, Node, NodeSpec};
use serde_json::json;

use crate::arguments::to_struct;
use crate::failure::Failure;

/// Disk of a machine; sparse, so that only what is written takes room.
pub(crate) const DISK_BYTES_DEFAULT: u64 = 10 * 1024 * 1024 * 1024;

/// Enrols `count` machines named PREFIX-1 and on, each with one network interface. Those whose name
/// or address is there already stay as they are; the new ones are returned.
pub(crate) async fn enrol(
    client: &Client,
    prefix: &str,
    count: u32,
    disk_bytes: u64,
) -> Result<Vec<Node>, Failure> {
    let mut nodes = Vec::new();
    for number in 1..=count {
        let [.., a, b, c] = number.to_be_bytes();
        let driver_info = json!({ "disk_bytes": disk_bytes });
        let request = CreateNodeRequest {
            name: format!("{prefix}-{number}"),
            spec: Some(NodeSpec {
                driver: "fake".to_owned(),
                driver_info: driver_info.as_object().map(to_struct),
                ..NodeSpec::default()
            }),
            // 52:54:00 is the prefix that virtual machines use.
            port_addresses: vec![format!("52:54:00:{a:02x}:{b:02x}:{c:02x}")],
            ..CreateNodeRequest::default()
        };
        match client.create_node(request).await {
            Ok(node) => nodes.push(node),
            Err(error) if error.reason() == Some("ALREADY_EXISTS") => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(nodes)
}
