//! A disk with a partition table at its start holds the whole image that the table belongs to, at any moment, also right
//! after the power went. Cleaning is the exception: it leaves the table to its end on purpose.
//!
//! Why: half an image with a table boots, into something that nobody has ever tested.

use bessemer_domain::ids::NodeId;

use super::{Verdict, Violation};
use crate::disk::Disk;

const NAME: &str = "no_half_image";

/// Judges disks.
#[derive(Debug, Default)]
pub(crate) struct NoHalfImage;

impl NoHalfImage {
    pub(crate) fn judge(&self, node: NodeId, disk: &Disk) -> Verdict {
        match disk.table() {
            Some(image) if !disk.is_being_erased && !disk.holds(image) => {
                let what = format!("node {node} has the table of {image:?} and not all of it");
                Err(Violation::new(NAME, what))
            }
            Some(_) | None => Ok(()),
        }
    }
}
