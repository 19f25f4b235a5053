//! Containers, which the cache does not hold: it only knows the registries, and who it is to them.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bessemer_proto::v1;
use bessemer_proto::v1::container_service_server::ContainerService;
use tonic::{Request, Response, Status};

use crate::cache::Shared;
use crate::error::PrepareError;
use crate::registry::{self, Reference};

/// Answers gRPC calls about containers.
pub(crate) struct Containers(pub(crate) Arc<Shared>);

#[tonic::async_trait]
impl ContainerService for Containers {
    async fn pin_container(
        &self,
        request: Request<v1::PinContainerRequest>,
    ) -> Result<Response<v1::PinnedContainer>, Status> {
        self.pin(request.into_inner()).await.map(Response::new).map_err(|error| error.to_status())
    }
}

impl Containers {
    async fn pin(
        &self,
        request: v1::PinContainerRequest,
    ) -> Result<v1::PinnedContainer, PrepareError> {
        let invalid = |field, value: &str, message: String| PrepareError::InvalidField {
            field,
            value: value.to_owned(),
            message,
        };
        let no_reference = |message| invalid("image.source", &request.source, message);
        let reference = request.source.strip_prefix("oci://").ok_or_else(|| {
            no_reference("it does not begin with oci://, as containers' references do".to_owned())
        })?;
        let reference = Reference::parse(reference).map_err(no_reference)?;
        let origins = &self.0.origins;
        let origins = match login(&request.pull_secret) {
            None if request.pull_secret.is_empty() => Arc::clone(origins),
            None => {
                let message = "it is not `user:password` in base64".to_owned();
                return Err(invalid("image_pull_secret", "…", message));
            }
            Some((username, password)) => Arc::new(origins.logged_in(username, password)),
        };
        let digest = registry::pin(&origins, &reference).await?;
        let Reference { host, repository, .. } = &reference;
        Ok(v1::PinnedContainer {
            reference: format!("{host}/{repository}@sha256:{digest}"),
            insecure: origins.is_insecure(&reference),
        })
    }
}

/// Name and password in a pull secret, which has the form of `auth` in podman's file of logins.
fn login(pull_secret: &str) -> Option<(String, String)> {
    let text = String::from_utf8(BASE64.decode(pull_secret).ok()?).ok()?;
    let (username, password) = text.trim_end().split_once(':')?;
    Some((username.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_secret_is_name_and_password() {
        let secret = |text: &str| BASE64.encode(text);
        let login_of = |name: &str, word: &str| Some((name.to_owned(), word.to_owned()));
        assert_eq!(login(&secret("me:a:b\n")), login_of("me", "a:b"));
        assert_eq!(login(&secret("me")), None);
        assert_eq!(login("me:word"), None);
        assert_eq!(login(""), None);
    }
}
