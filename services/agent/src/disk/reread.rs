//! The one request to the kernel that no safe wrapper offers.
#![expect(unsafe_code, reason = "BLKRRPART has no safe wrapper")]

use std::io;
use std::os::fd::AsFd;

/// `BLKRRPART` of `linux/fs.h`: `_IO(0x12, 95)`.
const BLKRRPART: rustix::ioctl::Opcode = 0x125f;

/// Has the kernel read the partition table of an open block device anew.
pub(super) fn partition_table(device: impl AsFd) -> io::Result<()> {
    // SAFETY: BLKRRPART takes no argument and touches no memory of ours.
    unsafe { rustix::ioctl::ioctl(device, rustix::ioctl::NoArg::<BLKRRPART>::new()) }?;
    Ok(())
}
