//! What every Bessemer binary shares: configuration, telemetry, TLS provider, monitoring, shutdown. Nothing about machines.

pub mod config;
pub mod monitor;
mod shutdown;
pub mod telemetry;
pub mod tls;

pub use shutdown::on_signal;

/// Makes ring the process's TLS provider. Call first thing in `main`: clients panic without one, even for plain http.
pub fn install_tls_provider() {
    // An error means that a provider is installed already, which is all that is wanted.
    rustls::crypto::ring::default_provider().install_default().ok();
}
