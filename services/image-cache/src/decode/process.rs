//! The cache's end of a decoder.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Once;

use bessemer_image::digest::Digest;
use bessemer_image::format::DiskFormat;
use rustix::process::Signal;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::watch;

use super::job::{self, Growth, Job, MESSAGE_BYTES_MAX, Said};
use crate::error::PrepareError;

/// By this name a program knows that it is to decode.
pub(super) const DECODER_NAME: &str = "bessemer-decoder";

/// What is kept of a decoder's last words, in bytes.
const LAST_WORDS_BYTES: usize = 400;

/// What a decoder did.
pub(crate) enum Answer {
    Converted { format: DiskFormat, raw_digest: Digest },
    Repaired { frames: usize },
    Different { index: u64 },
}

/// Has a process decode `source`, of which there is as much as `growth` says. `progress` hears how many bytes are done, and
/// of how many. The process ends when this future is dropped.
pub(crate) async fn run(
    program: &Path,
    job: &Job,
    source: File,
    growth: watch::Receiver<Growth>,
    progress: impl FnMut(u64, u64),
) -> Result<Answer, PrepareError> {
    let (mut child, socket) = start(program, source)
        .map_err(|source| PrepareError::storage("start the decoder", program, source))?;
    let last_words = child.stderr.take();
    let (from_child, to_child) = socket.into_split();
    // Whether it was told all is of no interest once it has answered, or gone.
    let (answer, last_words) = tokio::select! {
        ended = async { tokio::join!(hear(from_child, progress), read_last_words(last_words)) } => ended,
        never = tell(to_child, job, growth) => match never {},
    };
    let status = child.wait().await;
    match (answer, status) {
        (Ok(answer), _) => answer,
        (Err(error), status) => Err(PrepareError::DecoderEnded {
            source_url: job.source_url.clone(),
            is_killed: status.as_ref().is_ok_and(|it| it.signal() == Some(Signal::KILL.as_raw())),
            how: how_it_ended(status, &error, &last_words),
        }),
    }
}

fn start(program: &Path, source: File) -> io::Result<(Child, UnixStream)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    // Nothing of the cache's is in its environment.
    let child = Command::new(program)
        .arg0(DECODER_NAME)
        .env_clear()
        .stdin(source)
        .stdout(OwnedFd::from(theirs))
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    Ok((child, UnixStream::from_std(ours)?))
}

/// Tells the decoder its job and then how the source grows, for as long as anybody wants it to know.
async fn tell(
    mut socket: OwnedWriteHalf,
    job: &Job,
    mut growth: watch::Receiver<Growth>,
) -> std::convert::Infallible {
    let tell = async {
        socket.write_all(&job::encode(job)?).await?;
        loop {
            let now = *growth.borrow_and_update();
            socket.write_all(&job::encode(&now)?).await?;
            if now.ended {
                return Ok::<_, io::Error>(());
            }
            if growth.changed().await.is_err() {
                // Who wrote the source is gone: no more will come.
                let total_bytes = Some(now.available_bytes);
                let last = Growth { ended: true, total_bytes, ..now };
                return socket.write_all(&job::encode(&last)?).await;
            }
        }
    };
    if let Err(error) = tell.await {
        tracing::debug!(%error, "the decoder does not listen");
    }
    // The socket stays open: the decoder would take its end for the cache's.
    std::future::pending().await
}

/// Hears a decoder until it has answered. The error is that it did not.
async fn hear(
    mut socket: OwnedReadHalf,
    mut progress: impl FnMut(u64, u64),
) -> io::Result<Result<Answer, PrepareError>> {
    loop {
        return Ok(Ok(match receive(&mut socket).await? {
            Said::Begun { unconfined } => {
                warn_once(unconfined);
                continue;
            }
            Said::Progress { done_bytes, total_bytes } => {
                progress(done_bytes, total_bytes);
                continue;
            }
            Said::Converted { format, raw_algorithm, raw_digest } => {
                let raw_digest =
                    Digest::parse_as(raw_algorithm, &raw_digest).map_err(io::Error::other)?;
                Answer::Converted { format, raw_digest }
            }
            Said::Repaired { frames } => Answer::Repaired { frames },
            Said::Different { index } => Answer::Different { index },
            Said::Failed(failure) => return Ok(Err(failure.into())),
        }));
    }
}

async fn receive<T: DeserializeOwned>(socket: &mut (impl AsyncRead + Unpin)) -> io::Result<T> {
    let length = socket.read_u32().await?;
    if length > MESSAGE_BYTES_MAX {
        return Err(io::Error::other(format!("it sent a message of {length} bytes")));
    }
    let mut body = vec![0; length as usize];
    socket.read_exact(&mut body).await?;
    Ok(serde_json::from_slice(&body)?)
}

/// The end of what a decoder says on standard error.
async fn read_last_words(stderr: Option<ChildStderr>) -> String {
    let Some(mut stderr) = stderr else { return String::new() };
    let (mut kept, mut piece) = (Vec::new(), [0; 1024]);
    while let Ok(bytes @ 1..) = stderr.read(&mut piece).await {
        kept.extend_from_slice(&piece[..bytes]);
        kept.drain(..kept.len().saturating_sub(LAST_WORDS_BYTES));
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

fn how_it_ended(status: io::Result<ExitStatus>, error: &io::Error, last_words: &str) -> String {
    let signal = status.as_ref().ok().and_then(|it| it.signal()).and_then(Signal::from_named_raw);
    let how = match (signal, status) {
        (Some(Signal::XCPU), _) => "it took more processor time than an image may".to_owned(),
        (Some(Signal::XFSZ), _) => "it wrote more than max_image_bytes allows".to_owned(),
        (Some(Signal::ABORT), _) => {
            "it ended itself, as it does when it has no more memory".to_owned()
        }
        (_, Ok(status)) if !status.success() => format!("it ended with {status}"),
        _ => format!("it cannot be understood: {error}"),
    };
    if last_words.is_empty() { how } else { format!("{how} ({last_words})") }
}

/// Decoders of one system are all alike.
fn warn_once(unconfined: Option<String>) {
    static WARNED: Once = Once::new();
    if let Some(reason) = unconfined {
        WARNED.call_once(|| tracing::warn!(reason, "decoders are not confined by the system"));
    }
}
