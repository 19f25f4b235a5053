//! Everything that the scenarios share: a cluster, a machine room, the ramdisk, an operating system.

use std::path::{Path, PathBuf};

use bessemer_testkit::{Cluster, Options, Process, digest_of_file, free_port};

use crate::Arguments;
use crate::domain::Domain;
use crate::lab::{Lab, listening};
use crate::ramdisk::{GUESTS_LOOPBACK, build_image, build_iso};

/// A data centre with one machine.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) machine: Domain,
    pub(crate) lab: Lab,
    /// The deploy ramdisk.
    pub(crate) iso: PathBuf,
    pub(crate) iso_url: String,
    /// The operating system, where the image cache may read it, and its SHA-256.
    pub(crate) image: PathBuf,
    pub(crate) image_digest: String,
    /// Serves the ISO to BMCs.
    web: Process,
    // Last: it removes the directory in which all the others have their files.
    pub(crate) cluster: Cluster,
}

impl Site {
    pub(crate) async fn prepare(arguments: &Arguments) -> anyhow::Result<Self> {
        let options = Options {
            conductors: 2,
            nats: false,
            agents_reach: Some(GUESTS_LOOPBACK.to_owned()),
            ..Options::default()
        };
        let cluster = Cluster::start(&options).await?;
        let home = cluster.home().to_owned();
        let (files, lab) = (home.join("ramdisk"), home.join("lab"));
        let (iso, image, mut lab) = tokio::try_join!(
            build_iso(&files, arguments, cluster.api_urls()),
            build_image(&home),
            Lab::start(&lab, &arguments.sushy_emulator),
        )?;
        let port = free_port();
        let arguments = ["-m", "http.server", "--bind", "127.0.0.1", "--directory"];
        let mut arguments: Vec<_> = arguments.map(str::to_owned).into();
        arguments.extend([files.display().to_string(), port.to_string()]);
        let web = Process::start("web", Path::new("/usr/bin/python3"), &arguments, &home)?;
        listening("the web server", port).await?;
        let machine = Domain::new("vm1", &home.join("lab"))?;
        lab.install(&machine)?;
        Ok(Self {
            machine,
            lab,
            iso,
            iso_url: format!("http://127.0.0.1:{port}/bessemer-ramdisk.iso"),
            image_digest: digest_of_file(&image)?,
            image,
            web,
            cluster,
        })
    }

    pub(crate) fn last_words(&self) -> String {
        let parts = [
            self.cluster.last_words(),
            self.web.last_words(),
            self.lab.last_words(),
            self.machine.console.last_words(),
        ];
        parts.join("\n")
    }
}
