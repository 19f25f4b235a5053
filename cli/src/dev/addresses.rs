//! The members' addresses: chosen once and kept in the data directory, because the ledger knows members by them.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use tokio::net::TcpListener;

use crate::failure::Failure;

/// Where they are kept.
const FILE: &str = "members.json";

/// Where the first member listens if nothing else is said: the port of Ironic's API.
const LISTEN_DEFAULT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 6385);

/// Binds the members' addresses: those of the last time, or new ones that are kept from now on.
pub(super) async fn bind(
    data_dir: &Path,
    listen: Option<SocketAddr>,
    members: Option<usize>,
) -> Result<Vec<TcpListener>, Failure> {
    let path = data_dir.join(FILE);
    let kept = read(&path)
        .map_err(|error| Failure::failed(format!("cannot read {}: {error}", path.display())))?;
    let Some(kept) = kept else {
        let listeners = choose(listen.unwrap_or(LISTEN_DEFAULT), members.unwrap_or(1)).await?;
        let addresses: io::Result<Vec<_>> = listeners.iter().map(TcpListener::local_addr).collect();
        addresses.and_then(|addresses| write(&path, &addresses)).map_err(|error| {
            Failure::failed(format!("cannot write {}: {error}", path.display()))
        })?;
        return Ok(listeners);
    };
    agree(data_dir, &kept, listen, members)?;
    let mut listeners = Vec::new();
    for address in kept {
        listeners.push(bind_one(address).await?);
    }
    Ok(listeners)
}

/// What the cluster was made with cannot be changed by starting it again.
fn agree(
    data_dir: &Path,
    kept: &[SocketAddr],
    listen: Option<SocketAddr>,
    members: Option<usize>,
) -> Result<(), Failure> {
    let contradiction = match (listen, members) {
        (Some(listen), _) if kept.first() != Some(&listen) => {
            let first = kept.first().map(ToString::to_string).unwrap_or_default();
            format!("--listen {listen} is not where its first member listens, which is {first}")
        }
        (_, Some(members)) if members != kept.len() => {
            format!("--members {members} is not how many it has, which is {}", kept.len())
        }
        _ => return Ok(()),
    };
    Err(Failure::refused(format!("the cluster in {}: {contradiction}", data_dir.display()))
        .hint("leave the option out, or give another --data directory for a new cluster"))
}

async fn choose(listen: SocketAddr, members: usize) -> Result<Vec<TcpListener>, Failure> {
    let mut listeners = vec![bind_one(listen).await?];
    while listeners.len() < members {
        listeners.push(bind_one(SocketAddr::new(listen.ip(), 0)).await?);
    }
    Ok(listeners)
}

async fn bind_one(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::refused(format!("cannot listen at {address}: {error}"))
            .hint("is it running already? --listen and --data choose another place")
    })
}

fn read(path: &Path) -> io::Result<Option<Vec<SocketAddr>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whole or not at all: half a file would lose the cluster its addresses.
fn write(path: &Path, addresses: &[SocketAddr]) -> io::Result<()> {
    let next = path.with_extension("next");
    std::fs::write(&next, serde_json::to_vec(addresses)?)?;
    std::fs::rename(next, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Option<SocketAddr> =
        Some(SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0));

    fn addresses(listeners: &[TcpListener]) -> Vec<SocketAddr> {
        listeners.iter().map(|listener| listener.local_addr().unwrap()).collect()
    }

    #[tokio::test]
    async fn addresses_are_the_same_after_a_restart() {
        let home = tempfile::tempdir().unwrap();
        let first = addresses(&bind(home.path(), ANY, Some(3)).await.unwrap());
        assert_eq!(first.len(), 3);
        let again = addresses(&bind(home.path(), None, None).await.unwrap());
        assert_eq!(again, first);
    }

    #[tokio::test]
    async fn another_shape_of_the_same_cluster_is_refused_by_name() {
        let home = tempfile::tempdir().unwrap();
        drop(bind(home.path(), ANY, Some(1)).await.unwrap());
        let error = bind(home.path(), None, Some(3)).await.unwrap_err().to_string();
        assert!(error.contains("--members 3 is not how many it has, which is 1"), "{error}");
        let error = bind(home.path(), ANY, None).await.unwrap_err().to_string();
        assert!(error.contains("--listen 127.0.0.1:0 is not where"), "{error}");
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_named() {
        let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let taken = bind(homes[0].path(), ANY, None).await.unwrap();
        let address = taken[0].local_addr().unwrap();
        let error = bind(homes[1].path(), Some(address), None).await.unwrap_err().to_string();
        assert!(error.contains(&format!("cannot listen at {address}")), "{error}");
    }
}
