//! Images are decoded in a process of its own, for they are anybody's: one that finds a defect in a decoder, or makes it
//! take more memory or time than it may, ends its own preparation and nothing else.
//!
//! The decoder is this same program under another name ([`is_decoder`]). It is given the source, open; it opens what it
//! writes, gives up everything else ([`confine`]), and only then reads the first byte. The cache tells it how much of the
//! source is there, and it tells the cache how far it is and how it ended ([`job`]). Raw images are not decoded, and need
//! no decoder.

mod child;
mod confine;
mod expand;
mod growing;
mod job;
mod process;
mod repair;

pub use child::{decode, is_decoder};
pub(crate) use job::{Growth, Job, Work};
pub(crate) use process::{Answer, run};
pub(crate) use repair::frame_is_whole;
