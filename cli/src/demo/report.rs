//! What the demo says about images, disks and machines. Pure.

use std::time::Duration;

use bessemer_proto::v1::{Image, Node, WriteReport};

use super::compare::Checked;
use crate::output::{Table, quantity};

/// Digits of a digest that a line shows.
const DIGEST_DIGITS: usize = 16;

/// What came of the preparation.
pub(super) fn image(image: &Image, made_here: bool) -> String {
    let resolved = image.resolved.clone().unwrap_or_default();
    format!(
        "{} of {}{}, a disk of {}, prepared: {}% empty, {} to send",
        quantity::bytes(image.source_size_bytes),
        resolved.source_format,
        if made_here { " made here" } else { "" },
        quantity::bytes(resolved.raw_size_bytes),
        quantity::percent(image.zero_chunk_count, image.chunk_count),
        quantity::bytes(resolved.pack_size_bytes)
    )
}

/// What came of the comparison.
pub(super) fn verdict(checked: &[Checked], image_bytes: u64) -> String {
    let right = checked.iter().filter(|checked| checked.complaint().is_none()).count();
    let Some(first) = checked.first() else { return String::new() };
    let left_out = image_bytes.saturating_sub(first.compared_bytes);
    let tables = match left_out {
        0 => String::new(),
        bytes => {
            format!(" but {} of partition tables, where the agent works", quantity::bytes(bytes))
        }
    };
    format!(
        "{right} of {} disks are the image: all {}{tables}, sha256 {}",
        checked.len(),
        quantity::bytes(image_bytes),
        &first.image_digest[..DIGEST_DIGITS.min(first.image_digest.len())]
    )
}

/// A line for each machine.
pub(super) fn machines(nodes: &[Node], checked: &[Checked]) -> Table {
    let mut table = Table::new([
        "MACHINE",
        "WRITTEN IN",
        "IMAGE",
        "ON THE WIRE",
        "AGENT'S MEMORY",
        "DISK",
        "CONFIG DRIVE",
    ]);
    for (node, checked) in nodes.iter().zip(checked) {
        let write = write_report(node);
        let took = write.duration.and_then(|took| Duration::try_from(took).ok());
        let percent = quantity::percent(write.wire_bytes, write.image_bytes);
        let disk =
            if checked.image_digest == checked.disk_digest { "identical" } else { "DIFFERS" };
        table.row(vec![
            checked.name.clone(),
            took.map(quantity::duration).unwrap_or_default(),
            quantity::bytes(write.image_bytes),
            format!("{} ({percent}%)", quantity::bytes(write.wire_bytes)),
            quantity::bytes(write.agent_peak_rss_bytes),
            disk.to_owned(),
            checked.hostname.as_ref().map(|name| format!("of {name}")).unwrap_or_default(),
        ]);
    }
    table
}

fn write_report(node: &Node) -> WriteReport {
    let deployment = node.status.as_ref().and_then(|status| status.deployment.as_ref());
    deployment.and_then(|deployment| deployment.write.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use bessemer_proto::v1::{Deployment, NodeStatus};

    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn checked(disk_digest: &str) -> Checked {
        Checked {
            name: "demo-1".into(),
            image_digest: "0123456789abcdef01234567".into(),
            disk_digest: disk_digest.into(),
            compared_bytes: 256 * MIB - 33_856,
            table_complaint: None,
            hostname: Some("demo-1".into()),
        }
    }

    #[test]
    fn a_machine_is_a_line() {
        let node = Node {
            status: Some(NodeStatus {
                deployment: Some(Deployment {
                    write: Some(WriteReport {
                        image_bytes: 256 * MIB,
                        wire_bytes: 41 * MIB,
                        agent_peak_rss_bytes: 22 * MIB,
                        duration: Some(prost_types::Duration { seconds: 1, nanos: 250_000_000 }),
                        ..WriteReport::default()
                    }),
                    ..Deployment::default()
                }),
                ..NodeStatus::default()
            }),
            ..Node::default()
        };
        let expected = "\
MACHINE  WRITTEN IN  IMAGE    ON THE WIRE   AGENT'S MEMORY  DISK       CONFIG DRIVE
demo-1   1.2s        256 MiB  41 MiB (16%)  22 MiB          identical  of demo-1
";
        let table = machines(&[node], &[checked("0123456789abcdef01234567")]);
        assert_eq!(table.render(), expected);
    }

    #[test]
    fn a_disk_that_differs_is_not_counted() {
        let text = verdict(&[checked("0123456789abcdef01234567"), checked("f")], 256 * MIB);
        assert_eq!(
            text,
            "1 of 2 disks are the image: all 256 MiB but 33 KiB of partition tables, where the \
             agent works, sha256 0123456789abcdef"
        );
    }
}
