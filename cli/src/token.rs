//! `bessemer token`: tokens for people and programs, which the members know by their hashes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bessemer_access::{Identity, NewToken, Role};
use clap::Subcommand;
use serde_json::json;
use uuid::Uuid;

use crate::arguments::duration;
use crate::failure::Failure;
use crate::output::{Format, print};

/// `bessemer token`.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and the line for the members' token_file; the token is shown this once
    Issue {
        /// Whose it is, as history will tell
        name: String,
        /// What it may do: admin, operator or reader
        #[arg(long)]
        role: String,
        /// Only for the nodes whose owner or lessee this is
        #[arg(long, value_name = "NAME")]
        project: Option<String>,
        /// How long it holds, such as 90d [default: until its line is removed]
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        valid_for: Option<Duration>,
    },
}

impl TokenCommand {
    pub(crate) fn run(self, format: Format) -> Result<(), Failure> {
        let Self::Issue { name, role, project, valid_for } = self;
        let refused = |error: &dyn std::fmt::Display| Failure::refused(error.to_string());
        let role: Role = role.parse().map_err(|error| refused(&error))?;
        let identity = Identity::try_new(role, &name, project.as_deref());
        let identity = identity.map_err(|error| refused(&error))?;
        let expires = valid_for.map(|valid_for| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            (now + valid_for).as_secs()
        });
        let new = NewToken::issue(&identity, expires, random()).ok_or_else(|| {
            Failure::refused(format!("a {role} is known by its certificate, not by a token"))
                .hint("`bessemer pki issue` makes certificates")
        })?;
        if format.is_data() {
            return format.data(&json!({ "token": new.token, "line": new.line }));
        }
        print(&format!("{}\n", new.token))?;
        eprintln!(
            "\nThe line for token_file of every member, which take note of it within a second:\n"
        );
        eprintln!("{}", new.line);
        Ok(())
    }
}

/// 32 bytes of the operating system's randomness: three random UUIDs without the bits that are fixed, hashed.
pub(crate) fn random() -> [u8; 32] {
    use sha2::Digest;
    let mut digest = sha2::Sha256::new();
    for _ in 0..3 {
        digest.update(Uuid::new_v4().as_bytes());
    }
    digest.finalize().into()
}
