//! The process that decodes one image.
//!
//! Its standard input is the source, its standard output the socket to the cache, its standard error what the cache says
//! of it when it dies. It ends when the cache does.

use std::fs::File;
use std::io::{self, BufReader};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bessemer_image::digest::Algorithm;
use bessemer_image::disk::{Disk, DiskError};
use bessemer_image::format::{self, Content, DiskFormat, PROBE_BYTES};
use bessemer_image::pack::{Packed, RawSource};

use super::confine::{bound_cpu_time, confine};
use super::growing::GrowingFile;
use super::job::{self, Failure, Growth, Job, Said};
use super::repair::{Pack, Repaired};
use super::{Work, process};
use crate::durable;
use crate::error::PrepareError;
use crate::prepare::{Output, Packing};

/// How often the cache hears of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Whether this program was started to decode an image. Then [`decode`] is all it does, and it must not have made a
/// thread before.
pub fn is_decoder() -> bool {
    std::env::args_os().next().is_some_and(|name| name == process::DECODER_NAME)
}

/// Decodes the image on standard input, as the cache at the other end of standard output says.
pub fn decode() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let socket = std::io::stdout().as_fd().try_clone_to_owned();
    let socket = UnixStream::from(socket.map_err(|error| format!("no socket: {error}"))?);
    let from_cache = socket.try_clone().map_err(|error| format!("no socket: {error}"))?;
    let mut from_cache = BufReader::new(from_cache);
    let voice = Voice { socket, told: Mutex::new(Instant::now()) };
    let job: Job = job::receive(&mut from_cache).map_err(|error| format!("no job: {error}"))?;
    let said = match Decoding::open(&job, &voice) {
        Ok(decoding) => {
            let unconfined = confine(&job)?;
            voice.say(&Said::Begun { unconfined })?;
            let source = Arc::clone(&decoding.source);
            thread::spawn(move || follow(from_cache, &source));
            decoding.run()
        }
        Err(error) => Err(error),
    };
    voice.say(&said.unwrap_or_else(|error| Said::Failed(Failure::from(&error))))
}

/// Hears how much of the source is there, until the cache is gone, and this process with it.
fn follow(mut from_cache: BufReader<UnixStream>, source: &GrowingFile) {
    while let Ok(growth) = job::receive::<Growth>(&mut from_cache) {
        source.grow(growth);
    }
    std::process::exit(1);
}

/// What is told to the cache.
pub(super) struct Voice {
    socket: UnixStream,
    /// When progress was told the last time.
    told: Mutex<Instant>,
}

impl Voice {
    fn say(&self, said: &Said) -> Result<(), String> {
        job::send(&self.socket, said).map_err(|error| format!("the cache does not hear: {error}"))
    }

    /// Tells how far the work is, now and then.
    fn progress(&self, done_bytes: u64, total_bytes: u64) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.elapsed() >= PROGRESS_INTERVAL {
            *told = Instant::now();
            // Whether the cache is gone is seen elsewhere.
            let _ = self.say(&Said::Progress { done_bytes, total_bytes });
        }
    }
}

/// One image on its way, with all files open that are needed.
pub(super) struct Decoding<'a> {
    pub(super) job: &'a Job,
    pub(super) source: Arc<GrowingFile>,
    /// Where to put what was compressed as a whole. Has no name any more.
    pub(super) expanded: File,
    target: Target,
    voice: &'a Voice,
}

/// What is to be made.
enum Target {
    /// A pack and its manifest; `given` is the algorithm of the source's digest.
    Output { output: Output, given: Option<Algorithm> },
    /// Damaged frames of a pack.
    Pack { pack: Pack, format: DiskFormat },
}

impl<'a> Decoding<'a> {
    fn open(job: &'a Job, voice: &'a Voice) -> Result<Self, PrepareError> {
        let source = std::io::stdin().as_fd().try_clone_to_owned();
        let source = source.map_err(|error| unreadable(job, &error))?;
        let target = match &job.work {
            Work::Convert { pack, reserved_bytes, manifest, given } => {
                let output = Output::create(pack, *reserved_bytes, manifest)?;
                Target::Output { output, given: *given }
            }
            Work::Repair { pack, manifest, format } => {
                Target::Pack { pack: Pack::open(pack, manifest)?, format: *format }
            }
        };
        let source = Arc::new(GrowingFile::new(File::from(source), None));
        Ok(Self { job, source, expanded: expanded_file(job)?, target, voice })
    }

    fn run(self) -> Result<Said, PrepareError> {
        let start = self.source.start(PROBE_BYTES).map_err(|error| unreadable(self.job, &error))?;
        let compression = match format::probe(&start) {
            Content::Compressed(compression) => Some(compression),
            _ => None,
        };
        match &self.target {
            Target::Output { output, given } => {
                let (packed, format) = match compression {
                    Some(compression) => self.convert_compressed(output, *given, compression)?,
                    None => self.convert(output, *given, &start)?,
                };
                Ok(Said::Converted {
                    format,
                    raw_algorithm: packed.raw_digest.algorithm(),
                    raw_digest: packed.raw_digest.to_string(),
                })
            }
            Target::Pack { pack, format } => {
                let repaired = match compression {
                    Some(compression) => {
                        let image = self.expand_whole(compression)?;
                        self.repair(pack, *format, &image)?
                    }
                    None => self.repair(pack, *format, &self.source)?,
                };
                Ok(match repaired {
                    Repaired::Frames(frames) => Said::Repaired { frames },
                    Repaired::Different { index } => Said::Different { index },
                })
            }
        }
    }

    /// Converts the source, which is the image itself and begins with `start`.
    fn convert(
        &self,
        output: &Output,
        given: Option<Algorithm>,
        start: &[u8],
    ) -> Result<(Packed, DiskFormat), PrepareError> {
        let format = self.format(start)?;
        let raw_algorithm = Algorithm::for_raw(given, format == DiskFormat::Raw);
        Ok((self.convert_disk(output, raw_algorithm, format, &self.source)?, format))
    }

    /// The format of an image that begins with `start`, if it is the declared one.
    pub(super) fn format(&self, start: &[u8]) -> Result<DiskFormat, PrepareError> {
        format::probe(start).check(self.job.declared).map_err(|refused| PrepareError::Format {
            source_url: self.job.source_url.clone(),
            refused,
        })
    }

    /// Makes the pack of an image that is read at random.
    pub(super) fn convert_disk(
        &self,
        output: &Output,
        raw_algorithm: Algorithm,
        format: DiskFormat,
        image: &GrowingFile,
    ) -> Result<Packed, PrepareError> {
        let disk = self.disk(format, image)?;
        self.pack(output, raw_algorithm, &disk, |error| self.undecodable(error))
    }

    /// The guest's view of an image. From now on this process has the time that a disk of its size takes.
    pub(super) fn disk<'i>(
        &self,
        format: DiskFormat,
        image: &'i GrowingFile,
    ) -> Result<Disk<&'i GrowingFile>, PrepareError> {
        let disk = Disk::open(format, image, self.job.max_image_bytes)
            .map_err(|error| self.undecodable(error))?;
        bound_cpu_time(disk.virtual_bytes()).map_err(|message| {
            PrepareError::storage("begin", &self.job.expanded, io::Error::other(message))
        })?;
        Ok(disk)
    }

    /// Makes the pack of a raw image.
    pub(super) fn pack<R: RawSource>(
        &self,
        output: &Output,
        raw_algorithm: Algorithm,
        raw: &R,
        read_failed: impl FnOnce(R::Error) -> PrepareError,
    ) -> Result<Packed, PrepareError> {
        let packing = Packing {
            source_url: &self.job.source_url,
            raw_algorithm,
            level: self.job.level,
            workers: self.job.workers,
            progress: &|done_bytes, total_bytes| self.voice.progress(done_bytes, total_bytes),
            // The cache ends this process when nobody wants the image any more.
            is_cancelled: &|| false,
        };
        packing.pack(output, raw, read_failed)
    }

    pub(super) fn undecodable(&self, error: DiskError) -> PrepareError {
        PrepareError::Disk { source_url: self.job.source_url.clone(), error }
    }
}

fn unreadable(job: &Job, error: &io::Error) -> PrepareError {
    PrepareError::SourceUnreachable {
        source_url: job.source_url.clone(),
        message: error.to_string(),
    }
}

/// A file whose space is free as soon as it is closed.
fn expanded_file(job: &Job) -> Result<File, PrepareError> {
    let open = || {
        let path = &job.expanded;
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        durable::remove(path)?;
        Ok(file)
    };
    open().map_err(|source| PrepareError::storage("write", &job.expanded, source))
}
