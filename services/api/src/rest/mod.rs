//! Ironic's REST API, for the clients that exist: a face over the commands and the state that the gRPC API has.
//!
//! Resources are tables of fields with the version of the API that each came with; requests that change something are
//! put as the messages that any other client would send, so that rules and words are those of the core. Nothing is
//! stored here.

mod allocation;
mod answer;
mod asked;
mod auth;
mod body;
mod conductor;
mod driver;
mod fault;
mod node;
mod port;
mod query;
mod resource;
mod root;
mod version;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::{Method, Uri};
use axum::routing::{get, put};
use axum::{Router, ServiceExt, middleware};
use bessemer_runtime::tls::{Listener, Peer};
use tower_http::normalize_path::NormalizePath;

use self::auth::Auth;
pub use self::auth::AuthStrategy;
use self::fault::Fault;
use crate::api::Api;
use crate::{Config, StartError};

/// What all requests are answered from.
#[derive(Debug)]
pub(crate) struct Rest {
    api: Arc<Api>,
    auth: Auth,
    public_endpoint: Option<String>,
    is_secure: bool,
}

/// What handlers are given.
type Shared = axum::extract::State<Arc<Rest>>;

/// What the configuration says of this face, checked.
#[derive(Debug)]
pub(crate) struct Settings {
    auth: Auth,
    public_endpoint: Option<String>,
    is_secure: bool,
}

impl Settings {
    /// # Errors
    /// [`StartError::Config`] when strangers would be let in without that being said, or the htpasswd file is wrong.
    pub(crate) fn try_new(
        config: &Config,
        listen: SocketAddr,
        is_secure: bool,
    ) -> Result<Self, StartError> {
        let file = config.rest_htpasswd_file.as_deref();
        let auth = Auth::try_new(listen, config.rest_auth_strategy, file, is_secure)?;
        let public_endpoint = config.rest_public_endpoint.as_ref();
        let public_endpoint = public_endpoint.map(|url| url.trim_end_matches('/').to_owned());
        Ok(Self { auth, public_endpoint, is_secure })
    }
}

impl Rest {
    /// What links begin with: as configured, else as the client wrote it.
    fn base(&self, host: Option<&str>) -> String {
        match (&self.public_endpoint, host) {
            (Some(endpoint), _) => endpoint.clone(),
            (None, Some(host)) if self.is_secure => format!("https://{host}"),
            (None, Some(host)) => format!("http://{host}"),
            (None, None) => String::new(),
        }
    }
}

/// Serves the API until the member stops.
///
/// # Errors
/// When the listener fails.
pub(crate) async fn serve(
    api: Arc<Api>,
    settings: Settings,
    listener: Listener,
) -> std::io::Result<()> {
    let stopped = api.stopping.clone().cancelled_owned();
    let Settings { auth, public_endpoint, is_secure } = settings;
    let router = router(Arc::new(Rest { api, auth, public_endpoint, is_secure }));
    // Clients write `/v1/nodes/` as well as `/v1/nodes`.
    let service = NormalizePath::trim_trailing_slash(router);
    let service = ServiceExt::<Request>::into_make_service_with_connect_info::<Peer>(service);
    axum::serve(listener, service).with_graceful_shutdown(stopped).await
}

fn router(rest: Arc<Rest>) -> Router {
    let nodes = Router::new()
        .route("/", get(node::list).post(node::create))
        .route("/detail", get(node::detail))
        .route("/{node}", get(node::show).patch(node::update).delete(node::delete))
        .route("/{node}/allocation", get(allocation::of_node).delete(allocation::delete_of_node))
        .route("/{node}/history", get(node::history::list))
        .route("/{node}/history/{entry}", get(node::history::show))
        .route("/{node}/inventory", get(node::inventory::show))
        .route("/{node}/maintenance", put(node::set_maintenance).delete(node::clear_maintenance))
        .route("/{node}/ports", get(port::of_node))
        .route("/{node}/states", get(node::states::show))
        .route("/{node}/states/power", put(node::states::power))
        .route("/{node}/states/provision", put(node::states::provision))
        .route(
            "/{node}/traits",
            get(node::traits::list).put(node::traits::replace).delete(node::traits::clear),
        )
        .route("/{node}/traits/{trait}", put(node::traits::add).delete(node::traits::remove))
        .route("/{node}/validate", get(node::validate::validate));
    let ports = Router::new()
        .route("/", get(port::list).post(port::create))
        .route("/detail", get(port::detail))
        .route("/{port}", get(port::show).delete(port::delete));
    Router::new()
        .route("/", get(root::index))
        .route("/v1", get(root::v1))
        .nest("/v1/nodes", nodes)
        .nest("/v1/ports", ports)
        .route("/v1/allocations", get(allocation::list).post(allocation::create))
        .route("/v1/allocations/{allocation}", get(allocation::show).delete(allocation::delete))
        .route("/v1/conductors", get(conductor::list))
        .route("/v1/conductors/{hostname}", get(conductor::show))
        .route("/v1/drivers", get(driver::list))
        .route("/v1/drivers/{name}", get(driver::show))
        .fallback(async |uri: Uri| Fault::no_route(uri.path()))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            Fault::no_method(method.as_str(), uri.path())
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&rest), auth::authenticate))
        .layer(middleware::from_fn(version::negotiate))
        .with_state(rest)
}
