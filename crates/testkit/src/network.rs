//! Where the processes of a cluster run: all on loopback, or each on a host of its own that can be cut off.
//!
//! A host is a network namespace on a bridge. The bridge is in a namespace of the test's own, so nothing of this is seen
//! by the computer's network: [`enter_own_network`] comes first.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::Context as _;

/// Tells a program that was started again that it is in a network of its own.
const MARK: &str = "BESSEMER_OWN_NETWORK";

/// The test's own address on the bridge; hosts have those after it.
const OWN: Ipv4Addr = Ipv4Addr::new(10, 231, 0, 1);

/// Makes the bridge, and the sets of hosts that are cut off. A frame from a mute port, or to a deaf one, is lost.
const SETUP: &str = "
    mkdir -p /run/netns
    mount -t tmpfs tmpfs /run/netns
    ip link set lo up
    ip link add hub type bridge
    ip address add 10.231.0.1/24 dev hub
    ip link set hub up
    nft -f - <<END
    table bridge cuts {
        set mute { type ifname; }
        set deaf { type ifname; }
        chain from { type filter hook prerouting priority 0; iifname @mute drop; }
        chain to { type filter hook postrouting priority 0; oifname @deaf drop; }
    }
END";

/// The network of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// All processes on loopback.
    #[default]
    Loopback,
    /// Each process on a host of its own. Needs [`enter_own_network`].
    Hosts,
}

impl Network {
    /// The address of the test itself.
    pub(crate) fn own_address(self) -> Ipv4Addr {
        match self {
            Self::Loopback => Ipv4Addr::LOCALHOST,
            Self::Hosts => OWN,
        }
    }

    /// A place for one more process.
    pub(crate) fn host(self) -> anyhow::Result<Host> {
        match self {
            Self::Loopback => Ok(Host::loopback()),
            Self::Hosts => Host::add(),
        }
    }
}

/// Where a process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    address: Ipv4Addr,
    /// The namespace; none on loopback. Its port on the bridge has the same name.
    name: Option<String>,
}

/// How a host is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Nothing gets in or out.
    Whole,
    /// What it sends is lost.
    Mute,
    /// What is sent to it is lost.
    Deaf,
}

impl Host {
    pub(crate) fn loopback() -> Self {
        Self { address: Ipv4Addr::LOCALHOST, name: None }
    }

    fn add() -> anyhow::Result<Self> {
        static HOSTS: AtomicU8 = AtomicU8::new(2);
        let number = HOSTS.fetch_add(1, Ordering::Relaxed);
        let [a, b, c, _] = OWN.octets();
        let address = Ipv4Addr::new(a, b, c, number);
        let name = format!("host{number}");
        shell(&format!(
            "ip netns add {name}
             ip link add {name} type veth peer name eth0 netns {name}
             ip link set {name} master hub up
             ip -n {name} address add {address}/24 dev eth0
             ip -n {name} link set eth0 up
             ip -n {name} link set lo up"
        ))?;
        Ok(Self { address, name: Some(name) })
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Runs a program there.
    pub(crate) fn command(&self, program: &Path) -> Command {
        match &self.name {
            None => Command::new(program),
            Some(name) => {
                // It becomes the program, with the same process id.
                let mut command = Command::new("ip");
                command.args([OsStr::new("netns"), OsStr::new("exec"), name.as_ref()]).arg(program);
                command
            }
        }
    }

    /// Cuts it off, without a word to anybody: connections stay open and carry nothing.
    ///
    /// # Errors
    /// When it is on loopback.
    pub fn cut(&self, cut: Cut) -> anyhow::Result<()> {
        self.change("add", cut)
    }

    /// Ends a cut.
    ///
    /// # Errors
    /// When it is on loopback.
    pub fn mend(&self, cut: Cut) -> anyhow::Result<()> {
        self.change("delete", cut)
    }

    /// Lets that much be sent to it in a second, late by as much as 400 ms; 0 lifts the limit.
    ///
    /// # Errors
    /// When it is on loopback.
    pub fn limit_bytes_per_second(&self, rate: u64) -> anyhow::Result<()> {
        let name = self.name()?;
        if rate == 0 {
            return shell(&format!("tc qdisc delete dev {name} root"));
        }
        shell(&format!(
            "tc qdisc replace dev {name} root tbf rate {rate}bps burst 32kb latency 400ms"
        ))
    }

    /// Lets it send that much in a second.
    ///
    /// # Errors
    /// When it is on loopback.
    pub fn limit_sent_bytes_per_second(&self, rate: u64) -> anyhow::Result<()> {
        let (name, limit) = (self.name()?, "burst 256kb latency 100ms");
        shell(&format!(
            "ip netns exec {name} tc qdisc replace dev eth0 root tbf rate {rate}bps {limit}"
        ))
    }

    fn change(&self, verb: &str, cut: Cut) -> anyhow::Result<()> {
        let name = self.name()?;
        let sets: &[_] = match cut {
            Cut::Whole => &["mute", "deaf"],
            Cut::Mute => &["mute"],
            Cut::Deaf => &["deaf"],
        };
        let element = |set| shell(&format!("nft {verb} element bridge cuts {set} '{{ {name} }}'"));
        sets.iter().try_for_each(element)
    }

    fn name(&self) -> anyhow::Result<&str> {
        self.name.as_deref().context("a process on loopback cannot be cut off")
    }
}

/// Puts this program into a network of its own, by starting it again there. Comes back only in that network.
///
/// # Errors
/// When that is not allowed: it takes root, and the commands `unshare`, `ip`, `nft` and `tc`.
pub fn enter_own_network() -> anyhow::Result<()> {
    if std::env::var_os(MARK).is_some() {
        return Ok(());
    }
    let own = std::env::current_exe()?;
    let enter = format!("set -eu\n{SETUP}\nexec \"$@\"");
    let error = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "sh", "-c", &enter, "sh"])
        .arg(own)
        .args(std::env::args_os().skip(1))
        .env(MARK, "1")
        .exec();
    Err(error).context("cannot run `unshare`, of Debian's util-linux")
}

fn shell(script: &str) -> anyhow::Result<()> {
    let output = Command::new("sh").args(["-euc", script]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{script}: {said}");
    Ok(())
}
