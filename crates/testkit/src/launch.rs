//! Starts the services of a cluster, each with a configuration of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::cluster::Options;
use crate::nats::NatsServer;
use crate::network::{Host, Network};
use crate::pki::Pki;
use crate::process::{Process, binary, free_port};
use crate::proxy::Proxy;

/// How the configuration of each process begins.
pub(crate) const METRICS_LISTEN: &str = "metrics_listen = ";

/// How the line in a member's configuration begins that says where it serves Ironic's REST API.
pub(crate) const REST_LISTEN: &str = "rest_listen = ";

/// The same for the dashboard.
pub(crate) const DASHBOARD_LISTEN: &str = "dashboard_listen = ";

pub(crate) fn members_toml(api_urls: &[String]) -> String {
    (1..)
        .zip(api_urls)
        .map(|(id, url)| {
            let address = host_and_port(url);
            format!("[[members]]\nid = {id}\naddress = \"{address}\"\n")
        })
        .collect()
}

/// `host:port` of a URL.
pub(crate) fn host_and_port(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, address)| address)
}

pub(crate) fn start_members(
    home: &Path,
    places: Vec<Place>,
    cache_urls: &[String],
    security: &Security,
) -> anyhow::Result<Vec<Process>> {
    let api_urls: Vec<_> = places.iter().map(|place| security.url(place)).collect();
    let known = members_toml(&api_urls);
    let start = |(id, place)| start_member(home, id, place, cache_urls, &known, security);
    (1..).zip(places).map(start).collect()
}

/// How the processes of a cluster speak.
#[derive(Debug, Clone)]
pub(crate) struct Security {
    pub(crate) pki: Option<Pki>,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) secret_keys_file: Option<PathBuf>,
}

impl Security {
    pub(crate) const fn scheme(&self) -> &'static str {
        if self.pki.is_some() { "https" } else { "http" }
    }

    pub(crate) fn url(&self, place: &Place) -> String {
        format!("{}://{}", self.scheme(), place.address())
    }

    /// The keys that seal secrets, as members and conductors are told of them.
    fn keys(&self) -> String {
        let line = |path: &PathBuf| format!("secret_keys_file = {path:?}\n");
        self.secret_keys_file.as_ref().map(line).unwrap_or_default()
    }

    /// The `[tls]` table of a service, which comes last in its configuration. Hosts of a test's own network are not
    /// loopback, and reached by nobody else.
    fn table(&self, role: &str, name: &str) -> anyhow::Result<String> {
        match &self.pki {
            Some(pki) => pki.table(role, name),
            None => Ok("[tls]\ninsecure = true\n".to_owned()),
        }
    }
}

/// Where a service is to listen.
#[derive(Debug)]
pub(crate) struct Place {
    host: Host,
    port: u16,
}

impl Place {
    pub(crate) fn new(network: Network) -> anyhow::Result<Self> {
        Ok(Self { host: network.host()?, port: free_port() })
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from((self.host.address(), self.port))
    }
}

pub(crate) fn start_member(
    home: &Path,
    id: u64,
    place: Place,
    cache_urls: &[String],
    known: &str,
    security: &Security,
) -> anyhow::Result<Process> {
    let auth = match &security.token_file {
        Some(path) => {
            let dashboard = SocketAddr::from((place.host.address(), free_port()));
            format!("token_file = {path:?}\n{DASHBOARD_LISTEN}\"{dashboard}\"\n")
        }
        None => "rest_auth_strategy = \"noauth\"\n".to_owned(),
    };
    let config = format!(
        "member_id = {id}\n\
         data_dir = \"{data}\"\n\
         listen = \"{listen}\"\n\
         image_caches = {cache_urls:?}\n\
         {REST_LISTEN}\"{rest}\"\n\
         {auth}{keys}{known}{tls}",
        keys = security.keys(),
        tls = security.table("member", &id.to_string())?,
        listen = place.address(),
        rest = SocketAddr::from((place.host.address(), free_port())),
        data = home.join(format!("api-{id}")).display(),
    );
    start_service(place.host, home, "bessemer-api", &format!("api-{id}"), &config)
}

/// An image cache, behind a proxy.
#[derive(Debug)]
pub struct ImageCache {
    /// The process.
    pub process: Process,
    /// Between agents and it.
    pub proxy: Proxy,
}

/// Starts caches that know each other. Answers their gRPC addresses too.
pub(crate) async fn start_caches(
    home: &Path,
    options: &Options,
    security: &Security,
) -> anyhow::Result<(Vec<ImageCache>, Vec<String>)> {
    let places: Vec<_> =
        (0..options.caches).map(|_| Place::new(options.network)).collect::<anyhow::Result<_>>()?;
    let urls: Vec<_> = places.iter().map(|place| security.url(place)).collect();
    let mut caches = Vec::new();
    for (number, place) in places.into_iter().enumerate() {
        let http = SocketAddr::from((place.host.address(), free_port()));
        let proxy = Proxy::start(options.network.own_address(), http).await?;
        let peers: Vec<_> = urls.iter().filter(|url| **url != urls[number]).collect();
        let name = format!("image-cache-{number}");
        let config = format!(
            "data_dir = \"{data}\"\n\
             grpc_listen = \"{grpc}\"\n\
             http_listen = \"{http}\"\n\
             advertised_url = \"{scheme}://{host}:{port}\"\n\
             file_roots = [\"{home}\"]\n\
             peers = {peers:?}\n\
             {more}{tls}",
            scheme = security.scheme(),
            tls = security.table("image-cache", &number.to_string())?,
            data = home.join(&name).display(),
            grpc = place.address(),
            host = agents_reach(options, options.network.own_address()),
            port = proxy.address().port(),
            home = home.display(),
            more = options.cache_config,
        );
        let process = start_service(place.host, home, "bessemer-image-cache", &name, &config)?;
        caches.push(ImageCache { process, proxy });
    }
    Ok((caches, urls))
}

pub(crate) fn start_conductor(
    home: &Path,
    number: usize,
    options: &Options,
    api_urls: &[String],
    cache_urls: &[String],
    nats: Option<&NatsServer>,
    security: &Security,
) -> anyhow::Result<Process> {
    let place = Place::new(options.network)?;
    let mut config = format!(
        "id = \"c{number}\"\n\
         api_urls = {api_urls:?}\n\
         image_caches = {cache_urls:?}\n\
         listen = \"{listen}\"\n\
         advertised_address = \"{scheme}://{host}:{port}\"\n\
         {keys}\
         [fake]\n\
         machines_dir = \"{machines}\"\n\
         agent_program = \"{agent}\"\n\
         steps_dir = \"{steps}\"\n\
         [concurrency]\n\
         deploys = {deploys}\n\
         [agent]\n\
         silence_seconds = 8\n",
        scheme = security.scheme(),
        keys = security.keys(),
        listen = place.address(),
        port = place.port,
        host = agents_reach(options, place.host.address()),
        deploys = options.deploys_at_once,
        machines = home.join("machines").display(),
        agent = binary("bessemer-agent").display(),
        steps = home.join("steps.d").display(),
    );
    config.push_str(&options.conductor_config);
    if let Some(nats) = nats {
        config.push_str(&format!("[nats]\nurl = \"{}\"\n", nats.url()));
        if let Some(pki) = &security.pki {
            let own = pki.issue("conductor", &format!("c{number}"), &["--host", "127.0.0.1"])?;
            config.push_str(&format!(
                "ca_file = {:?}\ncertificate_file = {:?}\nkey_file = {:?}\n",
                pki.ca_file(),
                own.certificate_file.unwrap_or_default(),
                own.key_file.unwrap_or_default(),
            ));
        }
    }
    config.push_str(&security.table("conductor", &format!("c{number}"))?);
    let name = format!("conductor-{number}");
    let arguments = configured(&place.host, home, &name, &config)?;
    let program = binary("bessemer-conductor");
    if options.conductor_environment.is_empty() {
        return Process::start_on(place.host, &name, &program, &arguments, home);
    }
    let variables =
        options.conductor_environment.iter().map(|(key, value)| format!("{key}={value}"));
    let program = program.display().to_string();
    let arguments: Vec<_> = variables.chain([program]).chain(arguments).collect();
    Process::start_on(place.host, &name, Path::new("/usr/bin/env"), &arguments, home)
}

/// The host by which agents reach what is at `address`.
fn agents_reach(options: &Options, address: Ipv4Addr) -> String {
    options.agents_reach.clone().unwrap_or_else(|| address.to_string())
}

fn start_service(
    host: Host,
    home: &Path,
    program: &str,
    name: &str,
    config: &str,
) -> anyhow::Result<Process> {
    let arguments = configured(&host, home, name, config)?;
    Process::start_on(host, name, &binary(program), &arguments, home)
}

/// Writes a configuration. Answers the arguments that name it.
fn configured(host: &Host, home: &Path, name: &str, config: &str) -> anyhow::Result<[String; 2]> {
    let path = home.join(format!("{name}.toml"));
    let metrics = SocketAddr::from((host.address(), free_port()));
    std::fs::write(&path, format!("{METRICS_LISTEN}\"{metrics}\"\n{config}"))?;
    Ok(["--config".to_owned(), path.display().to_string()])
}
