//! What machines boot over the network: a script for iPXE by the node's state, and the files of the deploy ramdisk.
//!
//! Made from the replicated state for each request, so any conductor answers for any node, and nothing is written when a
//! node's state changes. In the clear and to anybody, as firmware knows nothing else: a script holds no secret.

mod script;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::IntoResponse;
use axum::routing::get;
use bessemer_domain::Invalid;
use bessemer_domain::node::{JsonMap, KernelAndRamdisk, Node, Step};
use bessemer_domain::port::MacAddress;
use http::header;
use tower_http::services::ServeDir;

use crate::replica::Replica;
use script::Script;

/// Where the scripts are.
const SCRIPT: &str = "/v1/boot.ipxe";

/// The deploy ramdisk as `deploy/ramdisk/build` makes it. It may be built anew at any time.
#[derive(Debug, Clone)]
pub(crate) struct DeployRamdisk {
    directory: PathBuf,
}

impl DeployRamdisk {
    /// That in the directory.
    ///
    /// # Errors
    /// The path of a file that is missing, or whose words cannot be in a boot script.
    pub(crate) async fn open(directory: PathBuf) -> Result<Self, String> {
        let ramdisk = Self { directory };
        for name in [KERNEL, RAMDISK] {
            let path = ramdisk.directory.join(name);
            tokio::fs::metadata(&path).await.map_err(|error| unusable(&path, &error))?;
        }
        ramdisk.files().await?;
        Ok(ramdisk)
    }

    /// What machines boot, as a script names it: relative to its own URL, so that it comes from whoever gave the script.
    async fn files(&self) -> Result<KernelAndRamdisk, String> {
        let path = self.directory.join("cmdline");
        let words =
            tokio::fs::read_to_string(&path).await.map_err(|error| unusable(&path, &error))?;
        let arguments =
            words.trim().parse().map_err(|invalid: Invalid| unusable(&path, &invalid))?;
        Ok(KernelAndRamdisk {
            kernel: format!("ramdisk/{KERNEL}"),
            ramdisk: format!("ramdisk/{RAMDISK}"),
            arguments,
        })
    }
}

fn unusable(path: &Path, reason: &dyn std::fmt::Display) -> String {
    format!("http.ramdisk_dir: {}: {reason}", path.display())
}

const KERNEL: &str = "vmlinuz";
const RAMDISK: &str = "initramfs.zst";

struct Face {
    replica: Replica,
    ramdisk: Option<DeployRamdisk>,
}

pub(crate) fn router(replica: Replica, ramdisk: Option<DeployRamdisk>) -> Router {
    let files = ramdisk.as_ref().map(|it| ServeDir::new(&it.directory));
    let scripts =
        Router::new().route(SCRIPT, get(serve)).with_state(Arc::new(Face { replica, ramdisk }));
    match files {
        Some(files) => scripts.nest_service("/v1/ramdisk", files),
        None => scripts,
    }
}

async fn serve(
    State(face): State<Arc<Face>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> impl IntoResponse {
    let addresses = pairs.iter().filter(|(key, _)| key == "mac").map(|(_, value)| value.as_str());
    let script = face.script(addresses.collect()).await;
    ([(header::CONTENT_TYPE, "text/plain; charset=us-ascii")], script.to_string())
}

impl Face {
    /// What the machine with the addresses is to boot. Those that are not addresses are interfaces that it does not have.
    async fn script(&self, addresses: Vec<&str>) -> Script {
        if addresses.is_empty() {
            return Script::Introduce;
        }
        let state = self.replica.state();
        let node = addresses
            .into_iter()
            .filter_map(|address| address.parse::<MacAddress>().ok())
            .filter_map(|address| state.port_by_address(address))
            .find_map(|port| state.node(port.spec.node));
        let Some(node) = node else { return Script::Disk { of: None } };
        let own = match &self.ramdisk {
            Some(ramdisk) => ramdisk.files().await.map(Some),
            None => Ok(None),
        };
        script_of(node, own)
    }
}

/// What the node is to boot; `own` is the deploy ramdisk of this conductor, if it has one.
fn script_of(node: &Node, own: Result<Option<KernelAndRamdisk>, String>) -> Script {
    let label = node.label();
    let runs = node.deployment.as_ref().and_then(|it| it.spec.network_boot.as_ref());
    // The plan that an agent was for is over only when the machine has been switched on to boot what was deployed.
    let boots_instance =
        node.current_step().is_some_and(|(_, _, planned)| planned.step == Step::BootInstance);
    match (node.expects_agent() && !boots_instance, runs) {
        (true, _) => match own.and_then(|own| deploy_ramdisk(&node.spec.driver_info, own)) {
            Ok(boot) => Script::Boot { of: label, boot },
            Err(reason) => Script::Wait { of: label, reason },
        },
        (false, Some(boot)) => Script::Boot { of: label, boot: boot.clone() },
        (false, None) => Script::Disk { of: Some(label) },
    }
}

/// What a machine boots to run the agent: what its `driver_info` names by Ironic's keys, else this conductor's `own`.
///
/// # Errors
/// What is missing, or what a boot script must not hold.
fn deploy_ramdisk(
    driver_info: &JsonMap,
    own: Option<KernelAndRamdisk>,
) -> Result<KernelAndRamdisk, String> {
    let text = |key: &str| driver_info.get(key).and_then(serde_json::Value::as_str);
    let mut boot = match (text("deploy_kernel"), text("deploy_ramdisk")) {
        (Some(kernel), Some(ramdisk)) => {
            let boot = KernelAndRamdisk {
                kernel: kernel.to_owned(),
                ramdisk: ramdisk.to_owned(),
                arguments: own.map(|own| own.arguments).unwrap_or_default(),
            };
            boot.check_urls().map_err(|invalid| format!("driver_info.deploy_{invalid}"))?;
            boot
        }
        (None, None) => own.ok_or(
            "this conductor has no deploy ramdisk: its configuration has no http.ramdisk_dir, nor \
             driver_info a deploy_kernel and deploy_ramdisk",
        )?,
        (Some(_), None) | (None, Some(_)) => {
            return Err("driver_info has one of deploy_kernel and deploy_ramdisk; give both".into());
        }
    };
    let more = text("kernel_append_params").unwrap_or_default();
    boot.arguments = format!("{} {more}", boot.arguments)
        .parse()
        .map_err(|invalid: Invalid| format!("driver_info.kernel_append_params: {invalid}"))?;
    Ok(boot)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(driver_info: &serde_json::Value) -> Result<KernelAndRamdisk, String> {
        let own = KernelAndRamdisk {
            kernel: "ramdisk/vmlinuz".to_owned(),
            ramdisk: "ramdisk/initramfs.zst".to_owned(),
            arguments: "quiet".parse().unwrap(),
        };
        deploy_ramdisk(driver_info.as_object().unwrap(), Some(own))
    }

    #[test]
    fn a_nodes_own_ramdisk_comes_before_the_conductors() {
        let boot = of(&json!({"kernel_append_params": "console=ttyS1"})).unwrap();
        assert_eq!(boot.kernel, "ramdisk/vmlinuz");
        assert_eq!(boot.arguments.as_str(), "quiet console=ttyS1");
        let own = json!({"deploy_kernel": "http://a/k", "deploy_ramdisk": "http://a/r"});
        let boot = of(&own).unwrap();
        assert_eq!((boot.kernel.as_str(), boot.ramdisk.as_str()), ("http://a/k", "http://a/r"));
    }

    #[test]
    fn what_a_script_must_not_hold_is_refused_by_its_key() {
        let wrong = [
            (json!({"kernel_append_params": "a ; shell"}), "kernel_append_params"),
            (json!({"deploy_kernel": "http://a/k"}), "deploy_ramdisk"),
            (
                json!({"deploy_kernel": "http://a/ k", "deploy_ramdisk": "http://a/r"}),
                "deploy_kernel",
            ),
            (json!({"deploy_kernel": "http://a/k", "deploy_ramdisk": "r"}), "deploy_ramdisk"),
        ];
        for (driver_info, key) in wrong {
            let reason = of(&driver_info).unwrap_err();
            assert!(reason.contains(key), "{reason}");
        }
    }
}
