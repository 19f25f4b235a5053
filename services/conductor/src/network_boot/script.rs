//! Scripts for iPXE (<https://ipxe.org/scripting>). A line is split at white space, without quotes; what is put into one here
//! was checked to be single words that mean nothing to a script.

use std::fmt;

use bessemer_domain::node::KernelAndRamdisk;

/// Interfaces that a machine names itself by: those that iPXE has opened, and some to spare.
const INTERFACES: usize = 8;

/// How long iPXE waits before it asks again. Short beside the start of a server, long beside an answer.
const ASK_AGAIN_SECONDS: u64 = 5;

/// What a machine is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Script {
    /// To ask again with its addresses.
    Introduce,
    /// To boot a kernel.
    Boot {
        /// The node.
        of: String,
        /// What.
        boot: KernelAndRamdisk,
    },
    /// To go on to its disk.
    Disk {
        /// The node, if it is one.
        of: Option<String>,
    },
    /// To say why it cannot boot yet, and to ask again.
    Wait {
        /// The node.
        of: String,
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "#!ipxe")?;
        match self {
            Self::Introduce => introduce(f),
            Self::Boot { of, boot } => {
                // Linux finds its ramdisk by that name when EFI starts it; elsewhere it is given to it.
                writeln!(f, "echo Bessemer: node {} boots over the network", words(of))?;
                let KernelAndRamdisk { kernel, ramdisk, arguments } = boot;
                writeln!(
                    f,
                    "kernel --name kernel {kernel} initrd=initrd {arguments} || goto again"
                )?;
                writeln!(f, "initrd --name initrd {ramdisk} || goto again")?;
                writeln!(f, "boot || goto again")?;
                again(f)
            }
            Self::Disk { of } => {
                let who = of.as_deref().map_or_else(
                    || "no node has an address of this machine".to_owned(),
                    |of| format!("node {}", words(of)),
                );
                writeln!(f, "echo Bessemer: {who} boots from its disk")?;
                // EFI firmware goes on to its next boot option when this one fails (UEFI 2.10, 3.1.1); BIOS would stop.
                writeln!(f, "iseq ${{platform}} efi && exit 1 ||")?;
                writeln!(f, "sanboot --no-describe --drive 0x80 || exit 1")
            }
            Self::Wait { of, reason } => {
                writeln!(f, "echo Bessemer: node {} cannot boot: {}", words(of), words(reason))?;
                again(f)
            }
        }
    }
}

/// With all addresses: it is not said which of a machine's interfaces boots. With hyphens: iPXE would take what is before a
/// colon for the scheme of an URL.
fn introduce(f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let addresses: Vec<_> =
        (0..INTERFACES).map(|it| format!("mac=${{net{it}/mac:hexhyp}}")).collect();
    writeln!(f, ":ask")?;
    writeln!(f, "chain --replace boot.ipxe?{} || goto again", addresses.join("&"))?;
    writeln!(f, ":again")?;
    writeln!(f, "sleep {ASK_AGAIN_SECONDS}")?;
    writeln!(f, "goto ask")
}

fn again(f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, ":again")?;
    writeln!(f, "echo Bessemer: asks again in {ASK_AGAIN_SECONDS} s")?;
    writeln!(f, "sleep {ASK_AGAIN_SECONDS}")?;
    writeln!(f, "chain --replace boot.ipxe || goto again")
}

/// Words to be shown, without what a script would take for more.
fn words(text: &str) -> String {
    let plain = |it: char| if it.is_ascii_graphic() && !"${};#|&".contains(it) { it } else { ' ' };
    text.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot() -> Script {
        let boot = KernelAndRamdisk {
            kernel: "ramdisk/vmlinuz".to_owned(),
            ramdisk: "ramdisk/initramfs.zst".to_owned(),
            arguments: "quiet bessemer.api_urls=http://api:6385".parse().unwrap(),
        };
        Script::Boot { of: "rack1-n01".to_owned(), boot }
    }

    #[test]
    fn a_kernel_is_booted_with_its_arguments() {
        let lines = boot().to_string();
        assert!(lines.starts_with("#!ipxe\n"), "{lines}");
        assert!(
            lines.contains(
                "kernel --name kernel ramdisk/vmlinuz initrd=initrd quiet \
                 bessemer.api_urls=http://api:6385 || goto again\n"
            ),
            "{lines}"
        );
        assert!(lines.contains("initrd --name initrd ramdisk/initramfs.zst || goto again\n"));
    }

    #[test]
    fn a_machine_asks_again_until_it_can_boot() {
        let wait = Script::Wait { of: "n".to_owned(), reason: "no ramdisk".to_owned() };
        for script in [Script::Introduce, boot(), wait] {
            let lines = script.to_string();
            assert!(lines.contains("chain --replace boot.ipxe"), "{lines}");
            assert!(lines.contains("sleep 5"), "{lines}");
        }
    }

    #[test]
    fn words_for_people_are_no_commands() {
        let reason = "a\nshell; b || c && d ${net0/ip} #e".to_owned();
        let lines = Script::Wait { of: "n".to_owned(), reason }.to_string();
        assert_eq!(lines.lines().filter(|line| line.contains("shell")).count(), 1);
        assert!(lines.contains("cannot boot: a shell  b    c    d   net0/ip   e\n"), "{lines}");
    }
}
