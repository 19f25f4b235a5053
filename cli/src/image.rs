//! `bessemer image`: prepared images.

use std::time::{Instant, SystemTime};

use bessemer_proto::v1::prepare_image_response::Update;
use bessemer_proto::v1::{
    EvictImageRequest, GetImageRequest, Image, ImageSpec, ListImagesRequest, PinImageRequest,
    PrepareImageRequest, ResolvedImage, VerifyImageRequest,
};
use clap::Subcommand;
use futures::StreamExt;

use crate::failure::Failure;
use crate::image_argument::{ImageDigest, source_url};
use crate::output::{Column, View, print, quantity};
use crate::progress::{Plain, Screen, Transfer};
use crate::session::Session;

/// Digits of an id that tables show; enough to name the image with.
const SHORT_ID_DIGITS: usize = 12;

/// Cells of the bar.
const BAR_WIDTH: usize = 30;

const IMAGES: View<Image> = View {
    columns: &[
        Column { title: "NAME", wide: false, cell: |image, _| image.name.clone() },
        Column {
            title: "ID",
            wide: false,
            cell: |image, _| resolved(image).id.chars().take(SHORT_ID_DIGITS).collect(),
        },
        Column {
            title: "FORMAT",
            wide: false,
            cell: |image, _| resolved(image).source_format.clone(),
        },
        Column {
            title: "SIZE",
            wide: false,
            cell: |image, _| quantity::bytes(resolved(image).raw_size_bytes),
        },
        Column {
            title: "PACKED",
            wide: false,
            cell: |image, _| quantity::bytes(resolved(image).pack_size_bytes),
        },
        Column { title: "ZERO", wide: false, cell: |image, _| zero(image) },
        Column {
            title: "PREPARED",
            wide: false,
            cell: |image, now| quantity::age(image.prepared_at.as_ref(), now),
        },
        Column { title: "DIGEST", wide: true, cell: |image, _| digest(image) },
        Column { title: "SOURCE", wide: true, cell: |image, _| source(image).to_owned() },
    ],
    name: |image| image.name.clone(),
    fields: details,
};

static NOT_RESOLVED: std::sync::LazyLock<ResolvedImage> =
    std::sync::LazyLock::new(ResolvedImage::default);

fn resolved(image: &Image) -> &ResolvedImage {
    image.resolved.as_ref().unwrap_or(&NOT_RESOLVED)
}

fn source(image: &Image) -> &str {
    image.spec.as_ref().map_or("", |spec: &ImageSpec| &spec.source)
}

fn digest(image: &Image) -> String {
    let resolved = resolved(image);
    format!("{}:{}", resolved.raw_hash_algo, resolved.raw_hash_value)
}

/// The part of the image that is empty and never sent.
fn zero(image: &Image) -> String {
    format!("{}%", quantity::percent(image.zero_chunk_count, image.chunk_count))
}

fn details(image: &Image, _: SystemTime) -> Vec<(&'static str, String)> {
    let resolved = resolved(image);
    vec![
        ("Name", image.name.clone()),
        ("ID", resolved.id.clone()),
        ("Source", source(image).to_owned()),
        ("Format", resolved.source_format.clone()),
        ("Source size", quantity::bytes(image.source_size_bytes)),
        ("Size", quantity::bytes(resolved.raw_size_bytes)),
        ("Digest", digest(image)),
        ("Packed", quantity::bytes(resolved.pack_size_bytes)),
        (
            "Chunks",
            format!(
                "{} of {}, {} of them zero",
                image.chunk_count,
                quantity::bytes(image.chunk_size_bytes.into()),
                image.zero_chunk_count
            ),
        ),
        ("Served at", image.urls.join("\n")),
        ("Prepared", quantity::instant(image.prepared_at.as_ref())),
        ("Pinned", if image.pinned { "yes" } else { "no" }.to_owned()),
    ]
}

/// What can be asked of images.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Make a prepared image of a source, or find the one that was made
    Prepare(Prepare),
    /// Have an image prepared in every image cache, ahead of many deployments
    Prefetch(Prepare),
    /// List prepared images
    List,
    /// Show all that is known of a prepared image
    Show(Named),
    /// Read all that is stored of an image and check it; what is damaged is made again
    Verify(Named),
    /// Keep an image whatever the cache's limit
    Pin(Named),
    /// Let the cache drop an image again
    Unpin(Named),
    /// Drop an image; who asks for it again has it prepared anew
    Evict(Evict),
}

/// `image prepare` and `image prefetch`.
#[derive(Debug, clap::Args)]
pub(crate) struct Prepare {
    /// URL, or path on the image cache's host
    source: String,
    /// What it is to be called; the last part of the source when not given
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    #[command(flatten)]
    digest: ImageDigest,
}

/// An image.
#[derive(Debug, clap::Args)]
pub(crate) struct Named {
    /// Name, id, or the beginning of an id
    image: String,
}

/// `image evict`.
#[derive(Debug, clap::Args)]
pub(crate) struct Evict {
    #[command(flatten)]
    named: Named,
    /// Though it was used a moment ago
    #[arg(long)]
    force: bool,
}

impl ImageCommand {
    /// Does it.
    pub(crate) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Prepare(prepare) => prepare.run(session, false).await,
            Self::Prefetch(prepare) => prepare.run(session, true).await,
            Self::List => {
                let images = session.client.list_images(ListImagesRequest {}).await?.images;
                session.format.list(&images, &IMAGES)
            }
            Self::Show(Named { image }) => {
                let image = session.client.get_image(GetImageRequest { image }).await?;
                session.format.show(&image, &IMAGES)
            }
            Self::Verify(Named { image }) => verify(session, image).await,
            Self::Pin(Named { image }) => pin(session, image, true).await,
            Self::Unpin(Named { image }) => pin(session, image, false).await,
            Self::Evict(Evict { named: Named { image }, force }) => {
                let request = EvictImageRequest { image, force };
                let image = session.client.evict_image(request).await?.image.unwrap_or_default();
                print(&format!(
                    "{} is dropped, {} are free\n",
                    image.name,
                    quantity::bytes(resolved(&image).pack_size_bytes)
                ))
            }
        }
    }
}

async fn verify(session: &Session, image: String) -> Result<(), Failure> {
    let mut screen = Screen::stderr();
    let mut verified = Vec::new();
    let began = Instant::now();
    let mut updates = session.client.verify_image(VerifyImageRequest { image: image.clone() });
    while let Some(update) = updates.next().await {
        let update = update?;
        let milliseconds = began.elapsed().as_millis().max(1);
        let rate = u128::from(update.checked_bytes) * 1000 / milliseconds;
        let transfer = Transfer {
            done_bytes: update.checked_bytes,
            total_bytes: update.total_bytes,
            bytes_per_second: u64::try_from(rate).unwrap_or(u64::MAX),
        };
        show(&mut screen, &image, "verifying", transfer);
        verified.extend(update.image.map(|image| (image, update.damaged_chunk_count)));
    }
    // The worst of the caches that hold it.
    let worst = verified.into_iter().max_by_key(|(_, damaged)| *damaged);
    let Some((image, damaged)) = worst else {
        return Err(Failure::failed(format!("the check of {image} ended without an outcome")));
    };
    let (name, chunks) = (&image.name, image.chunk_count);
    if damaged == 0 {
        let read = quantity::bytes(resolved(&image).pack_size_bytes);
        return print(&format!("{name} is whole: {chunks} chunks, {read} read\n"));
    }
    Err(Failure::failed(format!("{damaged} of {chunks} chunks of {name} are damaged"))
        .hint(format!("they are being made again from {}; verify it once more", source(&image))))
}

async fn pin(session: &Session, image: String, pinned: bool) -> Result<(), Failure> {
    let image = session.client.pin_image(PinImageRequest { image, pinned }).await?;
    session.format.show(&image, &IMAGES)
}

impl Prepare {
    async fn run(self, session: &Session, in_every_cache: bool) -> Result<(), Failure> {
        let source = source_url(&self.source)?.ok_or_else(|| {
            Failure::refused(format!("`{}` is neither a URL nor a file here", self.source))
                .hint("a path on the image cache's host begins with `/`")
        })?;
        let image = Some(self.digest.of(source));
        let request = PrepareImageRequest { image, name: self.name, in_every_cache };
        let mut screen = Screen::stderr();
        let mut updates = session.client.prepare_image(request);
        while let Some(response) = updates.next().await {
            match response?.update {
                Some(Update::Progress(progress)) => {
                    let transfer = Transfer {
                        done_bytes: progress.done_bytes,
                        total_bytes: progress.total_bytes,
                        bytes_per_second: progress.bytes_per_second,
                    };
                    show(&mut screen, &self.source, &progress.phase, transfer);
                }
                Some(Update::Image(image)) => return session.format.show(&image, &IMAGES),
                None => {}
            }
        }
        Err(Failure::failed(format!("the preparation of {} ended without an image", self.source)))
    }
}

fn show(screen: &mut Screen, source: &str, phase: &str, transfer: Transfer) {
    let live = format!("{phase:<12} {}", transfer.line(BAR_WIDTH));
    let plain =
        Plain { about: source.to_owned(), stage: phase.to_owned(), figures: transfer.figures() };
    screen.draw(&[live], &[plain]);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_list_tells_what_is_sent_of_an_image() {
        const MIB: u64 = 1024 * 1024;
        let image = Image {
            name: "debian-12.qcow2".into(),
            resolved: Some(ResolvedImage {
                id: "0123456789abcdef0123".into(),
                source_format: "qcow2".into(),
                raw_size_bytes: 2048 * MIB,
                pack_size_bytes: 330 * MIB,
                ..ResolvedImage::default()
            }),
            chunk_count: 2048,
            zero_chunk_count: 1229,
            prepared_at: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
            ..Image::default()
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(120);
        let expected = "\
NAME             ID            FORMAT  SIZE     PACKED   ZERO  PREPARED
debian-12.qcow2  0123456789ab  qcow2   2.0 GiB  330 MiB  60%   2m
";
        assert_eq!(IMAGES.table(&[image], false, now).render(), expected);
    }
}
