//! `node rescue`.

use std::io::Read;
use std::path::PathBuf;

use bessemer_proto::v1::RescueNodeRequest;

use super::fan_out::{Asked, Verb};
use super::verdict::Goal;
use crate::failure::Failure;
use crate::session::Session;

/// `node rescue`. The password is in no argument: those are seen by everybody on the host.
#[derive(Debug, clap::Args)]
pub(crate) struct Rescue {
    #[command(flatten)]
    verb: Verb,
    /// File with the password of user `rescue` in its first line; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    password_file: PathBuf,
}

impl Rescue {
    /// Asks for it, and waits if told to.
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let rescue_password = self.password()?;
        let ask = async |Asked { node, command_id, version }| {
            let rescue_password = rescue_password.clone();
            let request = RescueNodeRequest { command_id, node, version, rescue_password };
            Ok((session.client.rescue_node(request).await?, Goal::State("rescue")))
        };
        self.verb.each(session, ask).await
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
