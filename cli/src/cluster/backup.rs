//! `bessemer cluster backup` and `restore`.

use std::io::Write;
use std::path::{Path, PathBuf};

use bessemer_api::MemberId;
use bessemer_api::backup::{self, Header, RestoreError, Restored, SoleMember};
use bessemer_proto::v1::BackupRequest;
use clap::Args;
use serde_json::json;
use tonic::Streaming;

use crate::event::chain::instant;
use crate::failure::{Failure, chain};
use crate::output::{Unfinished, fields, print, quantity};
use crate::session::Session;

/// `bessemer cluster restore`.
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup
    file: PathBuf,
    /// Directory of the new member, as in its configuration; must be new or empty
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Id of the new member, as in its configuration
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    member_id: u64,
    /// HOST:PORT of its listener, as other members will reach it
    #[arg(long, value_name = "HOST:PORT")]
    address: String,
}

/// Writes a backup beside `file`, checks it, and only then gives it its name.
pub(super) async fn write(session: &Session, file: &Path) -> Result<(), Failure> {
    let unfinished = Unfinished::beside(file)?;
    receive(session.client.backup(BackupRequest {}).await?, &unfinished).await?;
    let header = check(unfinished.path()).await?;
    unfinished.finish()?;
    let size_bytes = std::fs::metadata(file)
        .map_err(|error| Failure::failed(format!("cannot read {}: {error}", file.display())))?
        .len();
    show(session, file, &header, size_bytes)
}

async fn receive(
    mut slices: Streaming<bessemer_proto::v1::BackupResponse>,
    to: &Unfinished,
) -> Result<(), Failure> {
    let mut out = to.create()?;
    loop {
        let slice = slices.message().await.map_err(|status| {
            Failure::failed(format!("the member broke off: {}", status.message()))
                .hint("run the command again; another member can be asked with --api")
        })?;
        let Some(slice) = slice else { break };
        out.write_all(&slice.slice).map_err(|error| to.broken(&error))?;
    }
    out.sync_all().map_err(|error| to.broken(&error))
}

/// Reads what was written from beginning to end.
async fn check(file: &Path) -> Result<Header, Failure> {
    let path = file.to_owned();
    let checked = tokio::task::spawn_blocking(move || backup::verify(&path)).await;
    checked
        .map_err(|error| Failure::failed(error.to_string()))?
        .map_err(|damaged| Failure::failed(format!("the backup is not whole: {damaged}")))
}

fn show(session: &Session, file: &Path, header: &Header, size_bytes: u64) -> Result<(), Failure> {
    if session.format.is_data() {
        return session.format.data(&json!({
            "file": file,
            "size_bytes": size_bytes,
            "backup": header,
        }));
    }
    print(&fields(&[
        ("Backup", file.display().to_string()),
        ("Size", quantity::bytes(size_bytes)),
        ("Cluster", header.cluster_id.to_string()),
        ("Revision", header.revision.to_string()),
        ("Hash", header.hash.to_string()),
        ("Newest command", at(header)),
        ("Made by", format!("member {}", header.member_id)),
        ("Checked", "every event, the hash chain, the state, the digest".to_owned()),
    ]))
}

fn at(header: &Header) -> String {
    quantity::instant(Some(&instant(header.at.as_micros())))
}

impl Restore {
    /// Does it, without any server.
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let Self { file, data_dir, member_id, address } = self;
        let actor = session.actor.clone();
        let dir = data_dir.clone();
        let restored = tokio::task::spawn_blocking(move || {
            let member = SoleMember { id: MemberId(member_id), address: &address };
            backup::restore(&file, &dir, member, &actor)
        })
        .await
        .map_err(|error| Failure::failed(error.to_string()))?
        .map_err(|error| refusal(&error))?;
        if session.format.is_data() {
            return session.format.data(&json!({
                "data_dir": data_dir,
                "backup": restored.backup,
                "restoration": restored.restoration,
                "revision": restored.revision,
            }));
        }
        print(&told(&restored, &data_dir, member_id))
    }
}

/// What is wrong with what was given is refused; what breaks on the way has failed.
fn refusal(error: &RestoreError) -> Failure {
    match error {
        RestoreError::Damaged(_) | RestoreError::NotEmpty { .. } | RestoreError::Address(_) => {
            Failure::refused(chain(error))
        }
        RestoreError::Io { .. } | RestoreError::Store(_) | RestoreError::Open(_) => {
            Failure::failed(chain(error))
        }
    }
}

fn told(restored: &Restored, data_dir: &Path, member_id: u64) -> String {
    let (backup, dir) = (&restored.backup, data_dir.display());
    let (cluster, revision, at) = (backup.cluster_id, backup.revision, at(backup));
    format!(
        "\
Restored cluster {cluster} up to revision {revision} into {dir}.

Lost: every event after revision {revision}, that is whatever was acknowledged after {at}, and the
outcomes of those commands: one that is sent again is done again. What machines have done since is not known.

Next:
  1. Make sure that no member and no conductor of before is running.
  2. Start member {member_id} on {dir}; it leads alone.
  3. Start the other members with empty directories; for each, `bessemer cluster add ID ADDRESS`, then
     `bessemer cluster promote ID --wait`.
  4. Delete the events' stream in NATS, if there is one, and start the conductors; they register again and go on.
"
    )
}
