//! Logs to standard error or a file, and traces to an OpenTelemetry collector when one is named.

use std::fs::File;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::Deserialize;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// How a process tells what it does.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is logged, in `tracing`'s filter syntax. The environment variable `BESSEMER_LOG` wins.
    pub filter: String,
    /// Where logs are appended as lines of text; none writes them to standard error.
    pub file: Option<PathBuf>,
    /// gRPC endpoint of an OpenTelemetry collector, such as `http://127.0.0.1:4317`; none sends no traces.
    pub otlp_endpoint: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            filter: "info,openraft=warn,async_nats=warn".to_owned(),
            file: None,
            otlp_endpoint: None,
        }
    }
}

/// Telemetry that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error("log filter `{filter}` is wrong")]
    Filter {
        /// As configured.
        filter: String,
        /// Where and why.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The file cannot be opened.
    #[error("cannot open log file {path}")]
    File {
        /// As configured.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The exporter refuses its configuration.
    #[error("cannot send traces to `{endpoint}`")]
    Exporter {
        /// As configured.
        endpoint: String,
        /// Why.
        #[source]
        source: opentelemetry_otlp::ExporterBuildError,
    },
}

/// Keeps traces flowing; flushes what is left when dropped.
#[derive(Debug)]
pub struct Guard {
    provider: Option<SdkTracerProvider>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(provider) = &self.provider {
            // Nothing is left to report a failure to.
            provider.shutdown().ok();
        }
    }
}

/// Starts logs and traces for the process. Text on a terminal and in a file, JSON lines elsewhere.
///
/// # Errors
/// [`TelemetryError`] when the filter, the file or the endpoint is wrong.
pub fn init(service: &'static str, config: &Config) -> Result<Guard, TelemetryError> {
    let directives = std::env::var("BESSEMER_LOG").unwrap_or_else(|_| config.filter.clone());
    let filter = EnvFilter::try_new(&directives)
        .map_err(|source| TelemetryError::Filter { filter: directives, source })?;
    let provider = config
        .otlp_endpoint
        .as_deref()
        .map(|endpoint| tracer_provider(service, endpoint))
        .transpose()?;
    let traces = provider
        .as_ref()
        .map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer(service)));
    let logs = if let Some(path) = &config.file {
        fmt::layer().with_writer(Mutex::new(append(path)?)).with_ansi(false).boxed()
    } else if std::io::stderr().is_terminal() {
        fmt::layer().with_writer(std::io::stderr).with_target(false).boxed()
    } else {
        fmt::layer().with_writer(std::io::stderr).json().flatten_event(true).boxed()
    };
    tracing_subscriber::registry().with(filter).with(logs).with(traces).init();
    Ok(Guard { provider })
}

fn append(path: &Path) -> Result<File, TelemetryError> {
    let file = File::options().create(true).append(true).open(path);
    file.map_err(|source| TelemetryError::File { path: path.to_owned(), source })
}

fn tracer_provider(
    service: &'static str,
    endpoint: &str,
) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .map_err(|source| TelemetryError::Exporter { endpoint: endpoint.to_owned(), source })?;
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(Resource::builder().with_service_name(service).build())
        .build())
}
