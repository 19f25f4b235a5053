//! Writing a prepared image: only what is not zero travels, and nothing is written before it is
//! known to be right. Whatever source fails, the work goes on at the first chunk that is missing.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bessemer_image::pack::{
    ChunkDecoder, ChunkIndex, ChunkRefused, InvalidManifest, Manifest, ManifestDigest,
    manifest_bytes,
};

use super::crew::{Crew, Job, Outcome};
use super::fetch::{Arrived, Fetch};
use super::plan::{self, ChunkSet};
use super::server::{HttpClient, Trouble};
use super::slots::{Slot, Slots};
use super::source::Sources;
use tokio::sync::watch;

use crate::disk::OpenDisk;
use crate::task::{Meter, TaskError, blocking};

/// How often a chunk (or the manifest) may arrive damaged from each source. Once is an accident on
/// the way; the cache checks what it reads and mends it, so more than a few times is beyond help.
const REFUSALS_PER_SOURCE: u32 = 5;

/// Chunks that are looked at, all over the disk, to learn whether it holds much of the image: an
/// earlier version was there before, or this one. Read in a fraction of a second.
const SAMPLES: usize = 32;

/// How many wrong chunks in a row end the reading back behind the last sample that was right. An
/// earlier attempt wrote in order, a dozen at a time: what follows so many wrong ones was not
/// reached.
const WRONG_IN_A_ROW: u32 = 64;

/// Fetches the manifest with `digest` and checks it.
pub(super) async fn fetch_manifest(
    sources: &mut Sources,
    digest: &ManifestDigest,
    raw_bytes: u64,
) -> Result<Manifest, TaskError> {
    let length = usize::try_from(manifest_bytes(raw_bytes)).unwrap_or(usize::MAX);
    let mut refusals = 0;
    loop {
        let mut encoded = Vec::new();
        let fetched = match sources.get("/manifest", None, None).await {
            Ok(mut body) => body.read(length, &mut encoded).await,
            Err(trouble) => Err(trouble),
        };
        let trouble = match fetched {
            Err(trouble) => trouble,
            Ok(()) => match Manifest::parse(encoded, Some(digest)) {
                Ok(manifest) if manifest.raw_bytes() == raw_bytes => return Ok(manifest),
                // The task's two statements about the image contradict each other.
                Ok(manifest) => {
                    let found = manifest.raw_bytes();
                    let problem = format!("differs from the manifest's {found}");
                    return Err(TaskError::invalid(
                        "raw_size_bytes",
                        raw_bytes.to_string(),
                        problem,
                    ));
                }
                Err(invalid @ InvalidManifest::WrongDigest { .. }) => {
                    refusals += 1;
                    if refusals >= REFUSALS_PER_SOURCE * sources.count() as u32 {
                        let url = sources.url(sources.current()).to_owned();
                        let message = invalid.to_string();
                        return Err(TaskError::SourceCorrupt { url, message });
                    }
                    Trouble::passing(invalid.to_string())
                }
                // The right bytes, and no manifest: no source can have a better one.
                Err(invalid) => {
                    let url = sources.url(sources.current()).to_owned();
                    return Err(TaskError::SourceCorrupt { url, message: invalid.to_string() });
                }
            },
        };
        sources.failed(trouble).await?;
    }
}

/// Fetches an image's first chunk alone and checks it: what is to be known before a disk is touched.
pub(super) async fn fetch_first_chunk(
    sources: &mut Sources,
    manifest: &Manifest,
) -> Result<Vec<u8>, TaskError> {
    let Some(chunk) = manifest.chunk(ChunkIndex(0)) else { return Ok(Vec::new()) };
    let mut decoder = ChunkDecoder::new()
        .map_err(|error| TaskError::Internal { message: format!("no decoder: {error}") })?;
    let end = chunk.frame_offset_bytes + chunk.frame_bytes as u64;
    let mut times = 0;
    loop {
        let mut frame = Vec::new();
        let range = chunk.frame_offset_bytes..end;
        let fetched = match sources.get("/pack", Some(range), None).await {
            Ok(mut body) => body.read(chunk.frame_bytes, &mut frame).await,
            Err(trouble) => Err(trouble),
        };
        let trouble = match fetched {
            Err(trouble) => trouble,
            Ok(()) => {
                let mut raw = vec![0; chunk.raw_bytes];
                match decoder.decode(manifest, chunk.index, &frame, &mut raw) {
                    Ok(_) => return Ok(raw),
                    Err(refused) => {
                        times += 1;
                        if times >= REFUSALS_PER_SOURCE * sources.count() as u32 {
                            let url = sources.url(sources.current()).to_owned();
                            return Err(TaskError::ChunkRefused { url, times, refused });
                        }
                        Trouble::passing(refused.to_string())
                    }
                }
            }
        };
        sources.failed(trouble).await?;
    }
}

/// A prepared image on its way to a disk.
pub(super) struct PackWriter {
    disk: Arc<OpenDisk>,
    manifest: Arc<Manifest>,
    client: HttpClient,
    urls: watch::Receiver<Vec<String>>,
    meter: Arc<Meter>,
    crew: Crew,
    slots: Slots,
    /// Found right on the disk, and the last of them.
    present: ChunkSet,
    last_present: Option<ChunkIndex>,
    /// Chunks that are still to arrive whole.
    missing: u64,
    /// How often each arrived damaged.
    refusals: BTreeMap<ChunkIndex, u32>,
    wrong_in_a_row: u32,
    /// The chunks with partition tables, as far as they have arrived.
    held: BTreeMap<ChunkIndex, Vec<u8>>,
    pub(super) refused_chunks: u64,
    pub(super) resumed_bytes: u64,
}

impl PackWriter {
    pub(super) fn new(
        disk: Arc<OpenDisk>,
        manifest: Manifest,
        client: HttpClient,
        urls: watch::Receiver<Vec<String>>,
        meter: Arc<Meter>,
    ) -> Self {
        let manifest = Arc::new(manifest);
        Self {
            crew: Crew::start(&disk, &manifest, &meter),
            present: ChunkSet::new(manifest.chunk_count()),
            last_present: None,
            disk,
            manifest,
            client,
            urls,
            meter,
            slots: Slots::new(),
            missing: 0,
            refusals: BTreeMap::new(),
            wrong_in_a_row: 0,
            held: BTreeMap::new(),
            refused_chunks: 0,
            resumed_bytes: 0,
        }
    }

    /// Writes the image, except for what the disk holds already: of an earlier attempt, or of an
    /// image that was there before. Partition tables come last; before, there is none on the disk.
    pub(super) async fn write(&mut self, resume: bool) -> Result<(), TaskError> {
        self.look_at_samples().await?;
        if resume || self.last_present.is_some() {
            self.find_present().await?;
        }
        self.write_missing().await?;
        self.write_held().await
    }

    /// Fetches and writes what is not present, and zeroes what is to be zero, until all of it is done.
    async fn write_missing(&mut self) -> Result<(), TaskError> {
        let manifest = Arc::clone(&self.manifest);
        let present = std::mem::replace(&mut self.present, ChunkSet::new(0));
        let wanted = manifest.chunks().filter(|chunk| plan::is_wanted(chunk, &present));
        self.missing = wanted.count() as u64;
        let (client, urls) = (self.client.clone(), self.urls.clone());
        let mut fetch = Fetch::start(client, urls, &manifest, present, &self.slots);
        let slots = self.slots.clone();
        let mut zeros = plan::zero_runs(&manifest).peekable();
        while self.missing > 0 || zeros.peek().is_some() || self.crew.is_busy() {
            tokio::select! {
                outcome = self.crew.outcome(), if self.crew.is_busy() => {
                    if let Some(outcome) = outcome? {
                        self.settle(outcome, Some(&fetch))?;
                    }
                }
                arrived = fetch.next(), if self.missing > 0 => {
                    let Arrived { slot, index, server } = arrived?;
                    self.crew.submit(slot, Job::Write { index, source: server }).await?;
                }
                slot = slots.take(), if zeros.peek().is_some() => {
                    if let Some(run) = zeros.next() {
                        self.zero(slot, run).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Stops, and waits until nothing is being written any more.
    pub(super) async fn end(self) {
        self.crew.disband().await;
    }

    /// Reads a few chunks back, as far apart as they can be.
    async fn look_at_samples(&mut self) -> Result<(), TaskError> {
        let manifest = Arc::clone(&self.manifest);
        let step = plan::readable(&manifest).count().div_ceil(SAMPLES).max(1);
        for chunk in plan::readable(&manifest).step_by(step) {
            let slot = self.slot().await?;
            self.crew.submit(slot, Job::Check { index: chunk.index }).await?;
        }
        self.settle_all().await?;
        self.wrong_in_a_row = 0;
        Ok(())
    }

    /// Reads back what may be there. Nothing of it is trusted.
    async fn find_present(&mut self) -> Result<(), TaskError> {
        let manifest = Arc::clone(&self.manifest);
        for chunk in plan::readable(&manifest) {
            if self.present.contains(chunk.index) {
                continue;
            }
            let slot = self.slot().await?;
            if self.wrong_in_a_row >= WRONG_IN_A_ROW && Some(chunk.index) > self.last_present {
                break;
            }
            self.crew.submit(slot, Job::Check { index: chunk.index }).await?;
        }
        self.settle_all().await
    }

    /// Writes what was held back, the first chunk last, each when all before it is durable.
    async fn write_held(&mut self) -> Result<(), TaskError> {
        let (held, disk) = (std::mem::take(&mut self.held), Arc::clone(&self.disk));
        let meter = Arc::clone(&self.meter);
        blocking(move || {
            disk.flush()?;
            for (index, raw) in held.iter().rev() {
                disk.write_at(raw, index.raw_offset_bytes())?;
                disk.flush()?;
                meter.add_done(raw.len() as u64);
            }
            Ok(())
        })
        .await
    }

    async fn zero(&mut self, slot: Slot, run: Range<u64>) -> Result<(), TaskError> {
        let offset_bytes = ChunkIndex(run.start).raw_offset_bytes();
        let end_bytes = ChunkIndex(run.end).raw_offset_bytes().min(self.manifest.raw_bytes());
        let job = Job::Zero { offset_bytes, length_bytes: end_bytes - offset_bytes };
        self.crew.submit(slot, job).await
    }

    /// A free slot, as soon as there is one. Nothing is fetched meanwhile.
    async fn slot(&mut self) -> Result<Slot, TaskError> {
        loop {
            if let Some(slot) = self.slots.try_take() {
                return Ok(slot);
            }
            if let Some(outcome) = self.crew.outcome().await? {
                self.settle(outcome, None)?;
            }
        }
    }

    async fn settle_all(&mut self) -> Result<(), TaskError> {
        while let Some(outcome) = self.crew.outcome().await? {
            self.settle(outcome, None)?;
        }
        Ok(())
    }

    /// Takes note of how a job ended.
    fn settle(&mut self, outcome: Outcome, fetch: Option<&Fetch>) -> Result<(), TaskError> {
        match outcome {
            Outcome::Zeroed => {}
            Outcome::Written => self.missing -= 1,
            Outcome::Held { index, raw } => {
                self.missing -= 1;
                self.held.insert(index, raw);
            }
            Outcome::Right { index, bytes } => {
                self.present.insert(index);
                self.last_present = self.last_present.max(Some(index));
                self.resumed_bytes += bytes;
                self.wrong_in_a_row = 0;
            }
            Outcome::Wrong => self.wrong_in_a_row += 1,
            Outcome::Refused { refused, source } => {
                if let Some(fetch) = fetch {
                    self.refuse(refused, source, fetch)?;
                }
            }
            Outcome::Failed(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Has a damaged chunk fetched again, unless that was tried often enough.
    fn refuse(
        &mut self,
        refused: ChunkRefused,
        source: usize,
        fetch: &Fetch,
    ) -> Result<(), TaskError> {
        let (index, url) = (refused.index, fetch.url(source));
        tracing::warn!(url, %refused, "damaged chunk not written");
        self.refused_chunks += 1;
        let times = self.refusals.entry(index).or_default();
        *times += 1;
        if *times >= REFUSALS_PER_SOURCE * fetch.server_count() as u32 {
            let url = url.to_owned();
            return Err(TaskError::ChunkRefused { url, times: *times, refused });
        }
        fetch.again(index, source);
        Ok(())
    }
}
