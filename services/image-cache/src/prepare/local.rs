//! Prepares files on this host, where they are.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use bessemer_image::digest::{Digest, Hasher};
use bessemer_image::format::{DiskFormat, PROBE_BYTES};
use bessemer_image::{ReadAt as _, SourceFile};

use super::{Converted, Preparation, SourceKind};
use crate::error::PrepareError;
use crate::fetch::open_local;

/// What is hashed at once: large enough that system calls do not matter.
const HASH_BYTES: usize = 1 << 20;

pub(super) async fn convert(
    preparation: &Arc<Preparation>,
    path: &Path,
) -> Result<Converted, PrepareError> {
    let path = path.to_owned();
    preparation.blocking(move |preparation| convert_file(preparation, &path)).await
}

fn convert_file(preparation: &Preparation, path: &Path) -> Result<Converted, PrepareError> {
    let file = open_local(&preparation.shared.config.file_roots, path)?;
    let failed = |error: std::io::Error| PrepareError::SourceUnreachable {
        source_url: preparation.source_url().to_owned(),
        message: error.to_string(),
    };
    let again = file.try_clone().map_err(failed)?;
    let source = SourceFile::new(file).map_err(failed)?;
    let source_bytes = source.source_bytes();
    let mut start = vec![0; source_bytes.min(PROBE_BYTES as u64) as usize];
    source.read_exact_at(0, &mut start).map_err(failed)?;
    let kind = preparation.probe(&start)?;
    // The digest of a raw source is the digest of its raw image, which is computed anyway.
    let is_raw = kind == SourceKind::Image(DiskFormat::Raw);
    let expected = preparation.expected.filter(|_| !is_raw);
    let (converted, source_digest) = std::thread::scope(|scope| {
        let digest = expected.map(|expected| {
            scope.spawn(move || hash_file(&again, Hasher::new(expected.algorithm())))
        });
        let converted = preparation.convert(&source, kind);
        let digest = digest.map(|digest| digest.join().map_err(|_| PrepareError::Lost));
        (converted, digest)
    });
    // What a wrong digest explains is told as a wrong digest.
    if let Some(digest) = source_digest
        && converted.as_ref().err().is_none_or(PrepareError::may_be_damage)
    {
        preparation.check_digest(digest?.map_err(failed)?)?;
    }
    let (staged, format) = converted?;
    if is_raw && preparation.expected.is_some() {
        preparation.check_digest(staged.raw_digest)?;
    }
    Ok(Converted { staged, format, source_bytes })
}

fn hash_file(mut file: &File, mut hasher: Hasher) -> std::io::Result<Digest> {
    let mut buffer = vec![0; HASH_BYTES];
    // The file is read by position elsewhere; only this thread moves its cursor.
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            length => hasher.update(&buffer[..length]),
        }
    }
}
