//! What an agent is told at its start.

use std::path::PathBuf;

use bessemer_runtime::tls::{self, Fingerprint, InvalidTls, Transport};
use clap::Parser;

/// The agent that runs on a machine and writes its disk.
#[derive(Debug, Clone, Parser)]
#[command(name = "bessemer-agent", version)]
pub struct Config {
    /// gRPC address of a member of the API, such as `http://10.0.0.1:6385`; repeat it for each.
    #[arg(
        long = "api-url",
        env = "BESSEMER_API_URLS",
        value_delimiter = ',',
        required = true,
        value_name = "URL"
    )]
    pub api_urls: Vec<String>,
    /// The authority whose certificates the servers have, PEM. URLs then begin with https://, and nothing is sent in the
    /// clear.
    #[arg(long, env = "BESSEMER_CA_FILE", value_name = "PATH")]
    pub ca_file: Option<PathBuf>,
    /// The SHA-256 of that authority's certificate, where the certificate itself is not at hand: the servers send it.
    #[arg(
        long,
        env = "BESSEMER_CA_SHA256",
        value_name = "HEX",
        conflicts_with = "ca_file",
        value_parser = fingerprint
    )]
    pub ca_sha256: Option<Fingerprint>,
    /// MAC address of a network interface. Default: those that the kernel knows.
    #[arg(long = "mac", value_name = "MAC")]
    pub mac_addresses: Vec<String>,
    /// UUID of the machine. Default: what the firmware says.
    #[arg(long, value_name = "UUID")]
    pub system_uuid: Option<String>,
    /// A block device, or a regular file that acts as a disk of the machine. Default: all disks that the kernel knows.
    #[arg(long = "disk", value_name = "PATH")]
    pub disks: Vec<PathBuf>,
    /// Where the agent keeps what must survive its own restart, but not the machine's.
    #[arg(long, env = "BESSEMER_AGENT_STATE_DIR", default_value = "/run/bessemer-agent")]
    pub state_dir: PathBuf,
    /// Where plug-ins are: executables that do steps of their own.
    #[arg(
        long,
        env = "BESSEMER_AGENT_STEPS_DIR",
        default_value = "/etc/bessemer/steps.d",
        value_name = "DIR"
    )]
    pub steps_dir: PathBuf,
    /// What lets a person log in for a rescue; called with the file that holds the password's hash.
    #[arg(
        long,
        env = "BESSEMER_AGENT_RESCUE_PROGRAM",
        default_value = "/etc/bessemer/rescue",
        value_name = "PATH"
    )]
    pub rescue_program: PathBuf,
    /// What runs the containers of deploy interface `bootc`: a name to be found in `PATH`, or a path.
    #[arg(long, env = "BESSEMER_AGENT_PODMAN", default_value = "podman", value_name = "PATH")]
    pub podman: PathBuf,
    /// Where to append logs, as lines of text. Default: standard error, as JSON if that is no terminal.
    #[arg(long, env = "BESSEMER_AGENT_LOG_FILE", value_name = "PATH")]
    pub log_file: Option<PathBuf>,
}

fn fingerprint(text: &str) -> Result<Fingerprint, String> {
    text.parse()
}

impl Config {
    /// How the agent speaks with the cluster.
    pub(crate) fn transport(&self) -> Result<Transport, InvalidTls> {
        tls::Config { ca_file: self.ca_file.clone(), ..tls::Config::default() }
            .client(self.ca_sha256)
    }
}
