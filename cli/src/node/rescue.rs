//! `node rescue`.

use std::io::Read;
use std::path::PathBuf;

use bessemer_proto::v1::RescueNodeRequest;

use super::verdict::Goal;
use super::wait::settle;
use crate::arguments::{Mutation, Version, Wait};
use crate::failure::Failure;
use crate::session::Session;

/// `node rescue`. The password is in no argument: those are seen by everybody on the host.
#[derive(Debug, clap::Args)]
pub(crate) struct Rescue {
    /// Name or id
    node: String,
    /// File with the password of user `rescue` in its first line; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    password_file: PathBuf,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    version: Version,
    #[command(flatten)]
    mutation: Mutation,
}

impl Rescue {
    /// Asks for it, and waits if told to.
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let request = RescueNodeRequest {
            command_id: self.mutation.command_id(),
            rescue_password: self.password()?,
            node: self.node,
            version: self.version.version,
        };
        let node = session.client.rescue_node(request).await?;
        settle(session, node, &Goal::State("rescue"), &self.wait).await
    }

    fn password(&self) -> Result<String, Failure> {
        let mut text = String::new();
        let read = if self.password_file.as_os_str() == "-" {
            std::io::stdin().read_to_string(&mut text)
        } else {
            std::fs::File::open(&self.password_file).and_then(|mut it| it.read_to_string(&mut text))
        };
        read.map_err(|error| {
            let file = self.password_file.display();
            Failure::refused(format!("--password-file {file} cannot be read: {error}"))
        })?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }
}
