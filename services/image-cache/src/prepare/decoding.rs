//! Preparations whose source has to be decoded: what a decoder is told, and what is made of its answer.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use bessemer_image::format::DiskFormat;
use bessemer_image::pack::Manifest;
use tokio::sync::watch;

use super::{Phase, Preparation, Staged, workers};
use crate::decode::{self, Answer, Growth, Job, Work};
use crate::error::PrepareError;

impl Preparation {
    /// Has the source decoded and made into a pack. Answers the format of its image too.
    pub(super) async fn decode(
        self: &Arc<Self>,
        source: File,
        growth: watch::Receiver<Growth>,
    ) -> Result<(Staged, DiskFormat), PrepareError> {
        let (pack, manifest) = self.staged();
        let level = self.shared.config.compression_level;
        // A pack seldom takes more than an image that needs decoding.
        let reserved_bytes = growth.borrow().total_bytes.unwrap_or_default();
        let work = Work::Convert { pack, reserved_bytes, manifest, given: self.given() };
        match self.run_decoder(work, level, source, growth).await? {
            Answer::Converted { format, raw_digest } => {
                let staged = self.blocking(move |this| {
                    let (pack, manifest_file) = this.staged();
                    let manifest = checked_manifest(&pack, &manifest_file)?;
                    Ok(Staged { manifest, raw_digest, level, pack, manifest_file })
                });
                Ok((staged.await?, format))
            }
            Answer::Repaired { .. } | Answer::Different { .. } => Err(PrepareError::Lost),
        }
    }

    /// Has a decoder work on the source.
    pub(crate) async fn run_decoder(
        &self,
        work: Work,
        level: i32,
        source: File,
        growth: watch::Receiver<Growth>,
    ) -> Result<Answer, PrepareError> {
        let job = Job {
            source_url: self.source_url().to_owned(),
            declared: self.request.declared,
            max_image_bytes: self.shared.config.max_image_bytes,
            level,
            workers: workers()?,
            expanded: self.shared.layout.staged(&self.key, "expanded"),
            work,
        };
        let program = &self.shared.config.decoder_program;
        let progress = |done_bytes, total_bytes| {
            self.progress.report(Phase::Converting, done_bytes, total_bytes);
        };
        decode::run(program, &job, source, growth, progress).await
    }
}

/// The manifest that a decoder wrote, if it makes sense and its pack is as long as it says. Whether the pack's frames are
/// what it says is seen whenever they are read.
fn checked_manifest(pack: &PathBuf, manifest_file: &PathBuf) -> Result<Manifest, PrepareError> {
    let failed = |path, source| PrepareError::storage("read", path, source);
    let encoded = std::fs::read(manifest_file).map_err(|source| failed(manifest_file, source))?;
    let manifest = Manifest::parse(encoded, None)
        .map_err(|error| failed(manifest_file, std::io::Error::other(error)))?;
    let pack_bytes = std::fs::metadata(pack).map_err(|source| failed(pack, source))?.len();
    if pack_bytes == manifest.pack_bytes() {
        return Ok(manifest);
    }
    let message = format!("it has {pack_bytes} bytes, not {}", manifest.pack_bytes());
    Err(failed(pack, std::io::Error::other(message)))
}
