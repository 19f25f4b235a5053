//! Prepares files on this host, where they are.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use bessemer_image::digest::{Digest, Hasher};
use bessemer_image::disk::Disk;
use bessemer_image::format::{DiskFormat, PROBE_BYTES};
use bessemer_image::{ReadAt as _, SourceFile};

use super::{Converted, Preparation};
use crate::error::PrepareError;
use crate::fetch::{open_local, whole};

/// What is hashed at once: large enough that system calls do not matter.
const HASH_BYTES: usize = 1 << 20;

pub(super) async fn convert(
    preparation: &Arc<Preparation>,
    path: &Path,
) -> Result<Converted, PrepareError> {
    let path = path.to_owned();
    let opened = preparation.blocking(move |preparation| {
        let file = open_local(&preparation.shared.config.file_roots, &path)?;
        let failed = |error| unreadable(preparation, &error);
        let again = file.try_clone().map_err(failed)?;
        let source = SourceFile::new(file.try_clone().map_err(failed)?).map_err(failed)?;
        let mut start = vec![0; source.source_bytes().min(PROBE_BYTES as u64) as usize];
        source.read_exact_at(0, &mut start).map_err(failed)?;
        Ok((file, again, source, preparation.is_raw(&start)?))
    });
    let (file, again, source, is_raw) = opened.await?;
    let source_bytes = source.source_bytes();
    if is_raw {
        let packed = preparation.blocking(move |preparation| {
            let failed = |error| PrepareError::Disk {
                source_url: preparation.source_url().to_owned(),
                error,
            };
            let limit_bytes = preparation.shared.config.max_image_bytes;
            let disk = Disk::open(DiskFormat::Raw, &source, limit_bytes).map_err(failed)?;
            preparation.pack_raw(&disk, failed)
        });
        let staged = packed.await?;
        // The digest of a raw source is the digest of its raw image.
        if preparation.expected.is_some() {
            preparation.check_digest(staged.raw_digest)?;
        }
        return Ok(Converted { staged, format: DiskFormat::Raw, source_bytes });
    }
    let growth = whole(&file).map_err(|error| unreadable(preparation, &error))?;
    let (digest, converted) =
        tokio::join!(digest_of(preparation, again), preparation.decode(file, growth));
    // What a wrong digest explains is told as a wrong digest.
    if let Some(digest) = digest?
        && converted.as_ref().err().is_none_or(PrepareError::may_be_damage)
    {
        preparation.check_digest(digest)?;
    }
    let (staged, format) = converted?;
    Ok(Converted { staged, format, source_bytes })
}

/// The digest of a source, in what the caller expects it in; none if the caller expects none.
async fn digest_of(
    preparation: &Arc<Preparation>,
    file: File,
) -> Result<Option<Digest>, PrepareError> {
    let Some(given) = preparation.given() else { return Ok(None) };
    let hash = move |preparation: &Preparation| {
        hash_file(&file, Hasher::new(given)).map_err(|error| unreadable(preparation, &error))
    };
    preparation.blocking(hash).await.map(Some)
}

fn hash_file(mut file: &File, mut hasher: Hasher) -> io::Result<Digest> {
    let mut buffer = vec![0; HASH_BYTES];
    // The file is read by position elsewhere; only this thread moves its cursor.
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            length => hasher.update(&buffer[..length]),
        }
    }
}

fn unreadable(preparation: &Preparation, error: &io::Error) -> PrepareError {
    PrepareError::SourceUnreachable {
        source_url: preparation.source_url().to_owned(),
        message: error.to_string(),
    }
}
