//! One use of the program: the cluster it speaks to and the form of what it prints.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bessemer_client::{Client, Error, InvalidEndpoint};
use bessemer_runtime::tls::{self, Transport};
use clap::Args;
use tonic::Code;

use crate::failure::{Exit, Failure};
use crate::output::{Format, quantity};

/// How long a cluster that does not answer is asked again: several elections, and within a person's patience.
const DEADLINE: Duration = Duration::from_secs(5);

/// The environment variable that may hold a token. No argument does: arguments are seen by everybody on the machine.
const TOKEN_VARIABLE: &str = "BESSEMER_TOKEN";

/// How the caller proves who it is, and whom it believes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Credentials {
    /// The authority that the cluster's certificates are from, PEM; URLs then begin with https://
    #[arg(long, env = "BESSEMER_CA_FILE", value_name = "FILE", global = true)]
    ca_file: Option<PathBuf>,
    /// A certificate that says who asks, PEM
    #[arg(long, env = "BESSEMER_CERTIFICATE_FILE", value_name = "FILE", global = true)]
    certificate_file: Option<PathBuf>,
    /// The private key of that certificate, PEM
    #[arg(long, env = "BESSEMER_KEY_FILE", value_name = "FILE", global = true)]
    key_file: Option<PathBuf>,
    /// A file with a token that says who asks; the variable BESSEMER_TOKEN may hold the token itself
    #[arg(long, env = "BESSEMER_TOKEN_FILE", value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
}

impl Credentials {
    fn transport(&self) -> Result<Transport, Failure> {
        let config = tls::Config {
            certificate_file: self.certificate_file.clone(),
            key_file: self.key_file.clone(),
            ca_file: self.ca_file.clone(),
            insecure: false,
        };
        config.client(None).map_err(|invalid| {
            let message = invalid.to_string().replace("tls.", "--").replace('_', "-");
            Failure::refused(message)
        })
    }

    fn token(&self) -> Result<Option<String>, Failure> {
        let token = match &self.token_file {
            None => std::env::var(TOKEN_VARIABLE).ok(),
            Some(path) => Some(std::fs::read_to_string(path).map_err(|error| {
                Failure::refused(format!("cannot read --token-file {}: {error}", path.display()))
            })?),
        };
        Ok(token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()))
    }
}

/// What every command needs.
pub(crate) struct Session {
    /// The cluster.
    pub client: Client,
    /// The form of what is printed.
    pub format: Format,
    /// Who asks.
    pub actor: String,
    transport: Transport,
    token: Option<String>,
}

impl fmt::Debug for Session {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("client", &self.client).finish_non_exhaustive()
    }
}

impl Session {
    /// A session on behalf of `actor`. Connects when it is first used.
    pub(crate) fn new(
        api: &[String],
        actor: &str,
        format: Format,
        credentials: &Credentials,
    ) -> Result<Self, Failure> {
        let (transport, token) = (credentials.transport()?, credentials.token()?);
        if token.is_some() && !transport.is_secure() {
            return Err(Failure::refused("a token is not sent in the clear").hint(
                "--ca-file or BESSEMER_CA_FILE names the authority of the cluster's certificates",
            ));
        }
        let client = client(&transport, token.as_deref(), api)?.with_actor(actor);
        let actor = actor.to_owned();
        Ok(Self { client: client.with_deadline(DEADLINE), format, actor, transport, token })
    }

    /// A client of one member alone, `host:port`, by the same credentials.
    pub(crate) fn client_of(&self, address: &str) -> Result<Client, Failure> {
        let url = format!("{}://{address}", self.transport.scheme());
        client(&self.transport, self.token.as_deref(), &[url])
    }
}

fn client(transport: &Transport, token: Option<&str>, urls: &[String]) -> Result<Client, Failure> {
    let client = Client::over(transport, urls)?;
    match token {
        None => Ok(client),
        Some(token) => client
            .with_token(token)
            .ok_or_else(|| Failure::refused("the token holds characters that none of ours has")),
    }
}

impl From<InvalidEndpoint> for Failure {
    fn from(error: InvalidEndpoint) -> Self {
        Self::refused(error.to_string())
            .hint("--api and BESSEMER_API take URLs such as http://127.0.0.1:6385, or https:// with --ca-file")
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match &error {
            Error::Unreachable { operation, endpoints, waited, last } => Self::new(
                Exit::Unreachable,
                format!(
                    "no answer to {operation} within {} from {}; the last thing said was: {last}",
                    quantity::duration(*waited),
                    endpoints.join(", ")
                ),
            )
            .hint(
                "is the cluster up, and are --api or BESSEMER_API its addresses? \
                 `bessemer dev` starts one on this machine",
            ),
            Error::Refused(refusal) => {
                let exit = match refusal.code {
                    Code::Internal | Code::DataLoss | Code::Unknown => Exit::Failed,
                    _ => Exit::Refused,
                };
                let failure = Self::new(exit, refusal.message.clone());
                match hint(&refusal.reason) {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                }
            }
        }
    }
}

/// A way out that the message itself does not give, by the stable reason.
fn hint(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "UNAUTHENTICATED" => {
            "--token-file, BESSEMER_TOKEN or --certificate-file with --key-file say who you are"
        }
        "PERMISSION_DENIED" => "`bessemer token issue` or `pki issue` give people other roles",
        "NODE_NOT_FOUND" => "`bessemer node list` shows what there is",
        "PORT_NOT_FOUND" => "`bessemer port list` shows what there is",
        "IMAGE_NOT_FOUND" => {
            "`bessemer image list` shows what there is; a path begins with `./` or `/`"
        }
        "IMAGE_PINNED" => "`bessemer image unpin` lets the cache drop it",
        "IMAGE_IN_USE" => "--force drops it anyway; who reads it has it prepared anew",
        "VERSION_CONFLICT" => "`bessemer node show` tells its version now",
        "NO_SUCCESSOR" => "`bessemer conductor list` shows who is there; --force drains it anyway",
        "NODE_PROTECTED" => "`bessemer node set --protected false` ends that",
        "NODE_RETIRED" => "`bessemer node set --retired false` ends that",
        "IN_MAINTENANCE" => "`bessemer node maintenance off` ends it",
        "MEMBER_NOT_FOUND" | "MEMBER_TAKEN" => "`bessemer cluster status` shows the members",
        "MEMBER_NOT_READY" => {
            "`bessemer cluster status` shows how far it is; `promote --wait` waits"
        }
        "NO_CONDUCTOR_FOR_DRIVER" => "`bessemer cluster status` shows the conductors",
        "IMAGE_CHECKSUM_MISSING" => "give --checksum, or --os-hash-algo and --os-hash-value",
        "IMAGE_FORMAT_MISMATCH" => "leave --disk-format out to have the format found out",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use bessemer_client::Refusal;

    use super::*;

    fn refused(code: Code, reason: &str) -> Failure {
        Error::Refused(Box::new(Refusal {
            code,
            reason: reason.to_owned(),
            message: "no node `m9`".to_owned(),
            metadata: [].into(),
        }))
        .into()
    }

    #[test]
    fn a_refusal_is_told_with_a_way_out() {
        let failure = refused(Code::NotFound, "NODE_NOT_FOUND");
        assert_eq!(failure.exit(), Exit::Refused);
        assert_eq!(
            failure.to_string(),
            "error: no node `m9`\nhint: `bessemer node list` shows what there is"
        );
    }

    #[test]
    fn what_is_broken_in_the_cluster_is_not_the_callers_fault() {
        assert_eq!(refused(Code::Internal, "STORAGE_FAILED").exit(), Exit::Failed);
    }

    #[test]
    fn a_cluster_that_does_not_answer_has_its_own_code() {
        let error = Error::Unreachable {
            operation: "get_node",
            endpoints: vec!["http://127.0.0.1:1".into()],
            waited: DEADLINE,
            last: "connection refused".into(),
        };
        assert_eq!(Failure::from(error).exit(), Exit::Unreachable);
    }
}
