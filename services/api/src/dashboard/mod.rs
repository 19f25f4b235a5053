//! The dashboard: pages for people, served by this member from its own copy of the state.
//!
//! Pages are made here, as HTML that can be read and used without scripts. Each is made of sections; a script replaces
//! those that have changed, which the page's stream of server-sent events tells. A browser is only ever sent what it
//! asks for next, so a slow one holds nothing up. What a form asks for goes the way of every other request. With TLS people
//! sign in, as who they are to the API.

mod assets;
mod chart;
mod cluster;
mod event;
mod fleet;
mod guard;
mod image;
mod layout;
mod live;
mod node;
mod phase;
mod problem;
mod samples;
mod sign_in;
mod stuck;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use bessemer_runtime::tls::{Listener, Peer};

use self::problem::Problem;
use self::samples::Samples;
use crate::api::Api;

/// Largest form that is taken: a deployment with its user data.
const FORM_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What all pages are made from.
#[derive(Debug)]
struct Dashboard {
    api: Arc<Api>,
    samples: Samples,
}

/// What handlers are given.
type Shared = axum::extract::State<Arc<Dashboard>>;

/// Serves the dashboard until the member stops.
///
/// # Errors
/// When the listener fails.
pub(crate) async fn serve(api: Arc<Api>, listener: Listener) -> std::io::Result<()> {
    let stopped = api.stopping.clone().cancelled_owned();
    let dashboard = Arc::new(Dashboard { samples: Samples::default(), api });
    let sampling = samples::run(Arc::clone(&dashboard));
    let serving = async {
        let service = router(dashboard).into_make_service_with_connect_info::<Peer>();
        axum::serve(listener, service).with_graceful_shutdown(stopped).await
    };
    tokio::select! {
        served = serving => served,
        () = sampling => Ok(()),
    }
}

fn router(dashboard: Arc<Dashboard>) -> Router {
    Router::new()
        .route("/", get(fleet::page))
        .route("/fleet.json", get(fleet::snapshot))
        .route("/fleet/live", get(fleet::live))
        .route("/nodes/{node}", get(node::page))
        .route("/nodes/{node}/live", get(node::live))
        .route("/nodes/{node}/{action}", get(node::form).post(node::act))
        .route("/stuck", get(stuck::page))
        .route("/stuck/live", get(stuck::live))
        .route("/images", get(image::page))
        .route("/images/live", get(image::live))
        .route("/cluster", get(cluster::page))
        .route("/cluster/live", get(cluster::live))
        .route("/events", get(event::page))
        .route("/events.jsonl", get(event::export))
        .route("/assets/{name}", get(assets::serve))
        .route("/sign-in", get(sign_in::form).post(sign_in::sign_in))
        .route("/sign-out", post(sign_in::sign_out))
        .fallback(async || Problem::not_found("there is no such page"))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&dashboard), sign_in::admit))
        .layer(middleware::from_fn_with_state(Arc::clone(&dashboard), guard::guard))
        .with_state(dashboard)
}
