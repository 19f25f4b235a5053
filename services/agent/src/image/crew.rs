//! The threads that turn frames into chunks on the disk. Each has a decoder and an aligned buffer
//! of its own, so decoding, checking and writing of different chunks overlap.

use std::sync::{Arc, Mutex, PoisonError};

use bessemer_image::pack::{CHUNK_BYTES, ChunkDecoder, ChunkIndex, ChunkRefused, Manifest};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::plan;
use super::slots::{SLOTS, Slot};
use crate::disk::{AlignedBuffer, DiskError, OpenDisk};
use crate::task::{Meter, TaskError};

/// Threads: enough writes of 1 MiB in flight for a fast disk, and at 1.3 MiB each (buffer, decoder)
/// little memory.
const THREADS: usize = 4;

/// What there is to do.
#[derive(Debug, Clone, Copy)]
pub(super) enum Job {
    /// Decode the slot's frame, check it, and write it unless it holds a partition table. `source`
    /// is who sent it.
    Write { index: ChunkIndex, source: usize },
    /// Make a range of the disk zero.
    Zero { offset_bytes: u64, length_bytes: u64 },
    /// Read a chunk back and check it.
    Check { index: ChunkIndex },
}

/// What became of a job.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The disk holds zeros where it should.
    Zeroed,
    /// The disk holds the chunk.
    Written,
    /// The chunk is right, and to be written last.
    Held {
        index: ChunkIndex,
        raw: Vec<u8>,
    },
    /// Nothing was written: the frame is not the chunk's.
    Refused {
        refused: ChunkRefused,
        source: usize,
    },
    /// What the disk holds is the chunk.
    Right {
        index: ChunkIndex,
        bytes: u64,
    },
    /// What the disk holds is something else.
    Wrong,
    Failed(DiskError),
}

/// The threads, and how much they have to do.
#[derive(Debug)]
pub(super) struct Crew {
    jobs: mpsc::Sender<(Slot, Job)>,
    reports: mpsc::Receiver<Outcome>,
    threads: JoinSet<Result<(), TaskError>>,
    under_way: usize,
}

impl Crew {
    /// Threads that write chunks of `manifest` to `disk`, and tell `meter` how many bytes are right.
    pub(super) fn start(
        disk: &Arc<OpenDisk>,
        manifest: &Arc<Manifest>,
        meter: &Arc<Meter>,
    ) -> Self {
        let (jobs, queue) = mpsc::channel(SLOTS);
        let (reports_in, reports) = mpsc::channel(SLOTS);
        let queue = Arc::new(Mutex::new(queue));
        let mut threads = JoinSet::new();
        for _ in 0..THREADS {
            let (disk, manifest, meter) =
                (Arc::clone(disk), Arc::clone(manifest), Arc::clone(meter));
            let (queue, reports) = (Arc::clone(&queue), reports_in.clone());
            threads
                .spawn_blocking(move || Worker::new(disk, manifest, meter)?.work(&queue, &reports));
        }
        Self { jobs, reports, threads, under_way: 0 }
    }

    /// Whether any job is queued or being done.
    pub(super) fn is_busy(&self) -> bool {
        self.under_way > 0
    }

    /// Hands in a job.
    pub(super) async fn submit(&mut self, slot: Slot, job: Job) -> Result<(), TaskError> {
        self.under_way += 1;
        // There is room for as many jobs as slots; it fails when the threads are gone.
        self.jobs.send((slot, job)).await.map_err(|_| gone("its queue is closed"))
    }

    /// The outcome of one job, whose slot is free then; none when no job is left. May be dropped half way.
    pub(super) async fn outcome(&mut self) -> Result<Option<Outcome>, TaskError> {
        if !self.is_busy() {
            return Ok(None);
        }
        tokio::select! {
            biased;
            Some(outcome) = self.reports.recv() => {
                self.under_way -= 1;
                Ok(Some(outcome))
            }
            // No thread ends before the queue is closed, unless something is wrong with it.
            ended = self.threads.join_next() => match ended {
                Some(Ok(Err(error))) => Err(error),
                Some(Err(abnormal)) => Err(gone(&abnormal.to_string())),
                Some(Ok(Ok(()))) | None => Err(gone("it left")),
            },
        }
    }

    /// Drops what is queued and waits until nothing is being written any more.
    pub(super) async fn disband(mut self) {
        self.reports.close();
        drop(self.jobs);
        while self.threads.join_next().await.is_some() {}
    }
}

fn gone(why: &str) -> TaskError {
    TaskError::Internal { message: format!("a writing thread is gone: {why}") }
}

/// The next job. The lock is held while waiting, by one thread, and not while working.
fn next_of(queue: &Mutex<mpsc::Receiver<(Slot, Job)>>) -> Option<(Slot, Job)> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv()
}

struct Worker {
    disk: Arc<OpenDisk>,
    manifest: Arc<Manifest>,
    meter: Arc<Meter>,
    decoder: ChunkDecoder,
    raw: AlignedBuffer,
}

impl Worker {
    fn new(
        disk: Arc<OpenDisk>,
        manifest: Arc<Manifest>,
        meter: Arc<Meter>,
    ) -> Result<Self, TaskError> {
        let decoder = ChunkDecoder::new()
            .map_err(|error| TaskError::Internal { message: format!("no decoder: {error}") })?;
        Ok(Self { disk, manifest, meter, decoder, raw: AlignedBuffer::new(CHUNK_BYTES) })
    }

    fn work(
        mut self,
        queue: &Mutex<mpsc::Receiver<(Slot, Job)>>,
        reports: &mpsc::Sender<Outcome>,
    ) -> Result<(), TaskError> {
        // Nobody listens once the task is over: what is still queued is not done then.
        while !reports.is_closed()
            && let Some((slot, job)) = next_of(queue)
            && !reports.is_closed()
        {
            let outcome = self.perform(&slot, job).unwrap_or_else(Outcome::Failed);
            drop(slot);
            if reports.blocking_send(outcome).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn perform(&mut self, slot: &Slot, job: Job) -> Result<Outcome, DiskError> {
        match job {
            Job::Write { index, source } => self.write(index, &slot.frame, source),
            Job::Zero { offset_bytes, length_bytes } => {
                self.disk.zero(offset_bytes, length_bytes)?;
                self.meter.add_done(length_bytes);
                Ok(Outcome::Zeroed)
            }
            Job::Check { index } => self.check(index),
        }
    }

    fn write(
        &mut self,
        index: ChunkIndex,
        frame: &[u8],
        source: usize,
    ) -> Result<Outcome, DiskError> {
        match self.decoder.decode(&self.manifest, index, frame, &mut self.raw) {
            Ok(raw) if plan::holds_table(&self.manifest, index) => {
                Ok(Outcome::Held { index, raw: raw.to_vec() })
            }
            Ok(raw) => {
                self.disk.write_at(raw, index.raw_offset_bytes())?;
                self.meter.add_done(raw.len() as u64);
                Ok(Outcome::Written)
            }
            Err(refused) => Ok(Outcome::Refused { refused, source }),
        }
    }

    fn check(&mut self, index: ChunkIndex) -> Result<Outcome, DiskError> {
        let Some(chunk) = self.manifest.chunk(index) else { return Ok(Outcome::Wrong) };
        let raw = &mut self.raw[..chunk.raw_bytes];
        self.disk.read_at(raw, index.raw_offset_bytes())?;
        Ok(match self.manifest.verify_raw(index, raw) {
            Ok(()) => {
                let bytes = chunk.raw_bytes as u64;
                self.meter.add_done(bytes);
                Outcome::Right { index, bytes }
            }
            Err(_) => Outcome::Wrong,
        })
    }
}
