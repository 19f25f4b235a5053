//! Who asks for which image, and whether they may have it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ::http::StatusCode;
use ::http::request::Parts;
use axum::extract::{ConnectInfo, FromRequestParts, RawPathParams};
use bessemer_image::pack::ManifestDigest;
use bessemer_image::permit::{Permit, PermitKey, PermitRefused};
use bessemer_runtime::tls::Peer;
use uuid::Uuid;

use super::problem::Problem;
use crate::cache::Shared;

/// Whose responses share one share of what is sent.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Client {
    /// Where URLs are signed: the machine that is deployed, however it is reached.
    Deployment(Uuid),
    /// Where they are not.
    Address(IpAddr),
}

/// Somebody who may read an image.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) image: ManifestDigest,
    pub(super) client: Client,
}

impl FromRequestParts<Arc<Shared>> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Problem> {
        let address = parts.extensions.get::<ConnectInfo<Peer>>().map(|it| it.0.address.ip());
        let path = RawPathParams::from_request_parts(parts, shared)
            .await
            .map_err(|error| Problem::not_found(error.to_string()))?;
        let part = |name| path.iter().find(|(key, _)| *key == name).map(|(_, value)| value);
        let image = part("id").unwrap_or_default().parse();
        let image = image.map_err(|error| Problem::not_found(format!("{error}")))?;
        let permit = checked(part("permit"), image, &shared.permit_keys)?;
        let client = match (permit, address) {
            (Some(permit), _) => Client::Deployment(permit.deployment),
            (None, Some(address)) => Client::Address(address),
            (None, None) => {
                let message = "the connection has no address";
                return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "DEFECT", message));
            }
        };
        Ok(Self { image, client })
    }
}

/// The permit in a URL; none when nobody asks for one.
fn checked(
    permit: Option<&str>,
    image: ManifestDigest,
    keys: &[PermitKey],
) -> Result<Option<Permit>, Problem> {
    if keys.is_empty() {
        return Ok(None);
    }
    let refused = |reason, message| Problem::new(StatusCode::FORBIDDEN, reason, message);
    let Some(permit) = permit else {
        let message =
            "images are read for deployments only, by URLs that a conductor signs".to_owned();
        return Err(refused("URL_NOT_SIGNED", message));
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Permit::check(permit, image, keys, now).map(Some).map_err(|error| {
        let (reason, way_out) = match error {
            PermitRefused::Expired { .. } => ("URL_EXPIRED", "the conductor has a new one"),
            PermitRefused::Malformed | PermitRefused::Signature => (
                "URL_NOT_SIGNED",
                "are the conductor's key and the cache's url_key_files the same?",
            ),
        };
        refused(reason, format!("the permit in the URL is refused: {error}; {way_out}"))
    })
}
