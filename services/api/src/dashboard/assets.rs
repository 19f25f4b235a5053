//! The files that pages use, which are part of the program: the dashboard works without any other server.

use std::sync::LazyLock;

use axum::extract::{Path, Query};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::problem::Problem;

/// Digits of a file's digest in its URL.
const VERSION_DIGITS: usize = 12;

struct Asset {
    name: &'static str,
    content_type: &'static str,
    content: &'static str,
}

/// The file with this name, and what it is.
macro_rules! asset {
    ($name:literal, $content_type:literal) => {
        Asset {
            name: $name,
            content_type: $content_type,
            content: include_str!(concat!("assets/", $name)),
        }
    };
}

static ASSETS: [Asset; 6] = [
    asset!("style.css", "text/css; charset=utf-8"),
    asset!("theme.js", "text/javascript; charset=utf-8"),
    asset!("live.js", "text/javascript; charset=utf-8"),
    asset!("fleet.js", "text/javascript; charset=utf-8"),
    asset!("map.js", "text/javascript; charset=utf-8"),
    asset!("icon.svg", "image/svg+xml"),
];

/// Of all files together: a browser that has a page has the files that go with it, whichever member sent them.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = Sha256::new();
    for asset in &ASSETS {
        hasher.update(asset.content);
    }
    hex::encode(hasher.finalize())[..VERSION_DIGITS].to_owned()
});

/// Where a file is found; another URL once it is another file.
pub(super) fn url(name: &str) -> String {
    format!("/assets/{name}?v={}", *VERSION)
}

/// Which version of a file is asked for.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    v: String,
}

pub(super) async fn serve(Path(name): Path<String>, Query(wanted): Query<Wanted>) -> Response {
    match ASSETS.iter().find(|asset| asset.name == name) {
        Some(asset) => {
            // A page of a member with another version may ask for its own files here.
            let is_ours = wanted.v == *VERSION;
            let keep = if is_ours { "public, max-age=31536000, immutable" } else { "no-store" };
            let headers =
                [(header::CONTENT_TYPE, asset.content_type), (header::CACHE_CONTROL, keep)];
            (headers, asset.content).into_response()
        }
        None => Problem::not_found("there is no such file").into_response(),
    }
}
