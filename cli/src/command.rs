//! The command line.

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::allocation::AllocationCommand;
use crate::cluster::ClusterCommand;
use crate::conductor::ConductorCommand;
use crate::demo::Demo;
use crate::dev::Dev;
use crate::doctor::Doctor;
use crate::event::EventCommand;
use crate::failure::Failure;
use crate::image::ImageCommand;
use crate::node::NodeCommand;
use crate::output::{Format, print};
use crate::pki::PkiCommand;
use crate::port::PortCommand;
use crate::secrets::SecretsCommand;
use crate::session::{Credentials, Session};
use crate::template::{Kind, TemplateCommand};
use crate::token::TokenCommand;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the work failed, or something broke
  2  wrong usage, or the request was refused: nothing has changed
  3  --timeout passed; the work goes on
  4  the cluster cannot be reached";

/// Provisions bare metal: enrols machines, puts images on them, tells what happened.
#[derive(Debug, Parser)]
#[command(name = "bessemer", version, after_help = EXIT_CODES)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Args)]
struct Global {
    /// URL of a member of the cluster; repeatable, or separated by commas
    #[arg(
        long,
        env = "BESSEMER_API",
        value_name = "URL",
        value_delimiter = ',',
        global = true,
        default_value = "http://127.0.0.1:6385",
        help_heading = "Global options"
    )]
    api: Vec<String>,
    /// How results are printed
    #[arg(
        short,
        long,
        value_enum,
        global = true,
        default_value = "table",
        hide_possible_values = false,
        help_heading = "Global options"
    )]
    output: Format,
    /// Who asks, as history will tell where the cluster does not ask for certificates or tokens
    #[arg(long, env = "BESSEMER_ACTOR", global = true, help_heading = "Global options")]
    actor: Option<String>,
    #[command(flatten)]
    credentials: Credentials,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Machines
    #[command(subcommand)]
    Node(Box<NodeCommand>),
    /// Network interfaces of machines
    #[command(subcommand)]
    Port(PortCommand),
    /// Machines for those who say what it has to have
    #[command(subcommand)]
    Allocation(AllocationCommand),
    /// Steps of deployments, by traits
    #[command(subcommand)]
    DeployTemplate(TemplateCommand),
    /// Steps of cleanings and services, by name
    #[command(subcommand)]
    Runbook(TemplateCommand),
    /// Prepared images
    #[command(subcommand)]
    Image(ImageCommand),
    /// History
    #[command(subcommand)]
    Event(EventCommand),
    /// The whole of it, its members, and backups
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Who drives the machines
    #[command(subcommand)]
    Conductor(ConductorCommand),
    /// Look at members, conductors, image caches and nodes, and say what is wrong and what to do
    Doctor(Doctor),
    /// Certificates, for those who have no authority of their own
    #[command(subcommand)]
    Pki(PkiCommand),
    /// Keys that seal the secrets of nodes
    #[command(subcommand)]
    Secrets(SecretsCommand),
    /// Tokens of people and programs
    #[command(subcommand)]
    Token(TokenCommand),
    /// Run a whole cluster in this process, for development
    Dev(Dev),
    /// Show what Bessemer does: a cluster, machines, an image, and every byte checked
    Demo(Demo),
    /// Print a script that completes commands in a shell
    Completion {
        /// For which shell
        shell: Shell,
    },
}

impl CommandLine {
    /// Does what it says.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let session = || self.global.session();
        match self.command {
            Command::Node(command) => command.run(&session()?).await,
            Command::Port(command) => command.run(&session()?).await,
            Command::Allocation(command) => command.run(&session()?).await,
            Command::DeployTemplate(command) => {
                command.run(&session()?, Kind::DeployTemplate).await
            }
            Command::Runbook(command) => command.run(&session()?, Kind::Runbook).await,
            Command::Image(command) => command.run(&session()?).await,
            Command::Event(command) => command.run(&session()?).await,
            Command::Cluster(command) => command.run(&session()?).await,
            Command::Conductor(command) => command.run(&session()?).await,
            Command::Doctor(doctor) => doctor.run(&session()?).await,
            Command::Pki(command) => command.run(),
            Command::Secrets(SecretsCommand::Key) => SecretsCommand::key(),
            Command::Secrets(SecretsCommand::Rotate) => SecretsCommand::rotate(&session()?).await,
            Command::Token(command) => command.run(self.global.output),
            Command::Dev(dev) => Box::pin(dev.run()).await,
            Command::Demo(demo) => demo.run().await,
            Command::Completion { shell } => completion(shell),
        }
    }
}

impl Global {
    fn session(&self) -> Result<Session, Failure> {
        // Who is logged in, as the shell tells it; the API notes it and grants nothing for it.
        let actor = self.actor.clone().or_else(|| std::env::var("USER").ok());
        let actor = actor.as_deref().unwrap_or("anonymous");
        Session::new(&self.api, actor, self.output, &self.credentials)
    }
}

fn completion(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut CommandLine::command(), "bessemer", &mut script);
    print(&String::from_utf8_lossy(&script))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<CommandLine, clap::Error> {
        CommandLine::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_command_of_the_tour_parses() {
        for line in [
            "bessemer node create --name m1 --driver fake --driver-info disk_bytes=1073741824 --port 52:54:00:00:00:01",
            "bessemer node list --state active --state error --owner ops -o wide",
            "bessemer node show m1 -o json",
            "bessemer node set m1 --name m2 --property memory_mb=4096 --unset owner --version 7",
            "bessemer node manage m1 --wait --timeout 2m",
            "bessemer node provide m1 --wait",
            "bessemer node provide rack1-n[01-40] m7 --dry-run",
            "bessemer node undeploy --select state=active,owner=ops --wait",
            "bessemer node power off r[1-2]n[1,3]",
            "bessemer node deploy m1 --image ./a.qcow2 --user-data u --meta-data hostname=m1 --root-device size=>=10 --wait",
            "bessemer node deploy m1 --image http://h/a --os-hash-algo sha256 --os-hash-value ab --disk-format qcow2",
            "bessemer node rebuild m1",
            "bessemer node undeploy m1 --command-id 6e8bc430-9c3a-11d9-9669-0800200c9a66",
            "bessemer node abort m1",
            "bessemer node power reboot m1 --wait",
            "bessemer node power soft-off m1 --limit-seconds 120",
            "bessemer node power nmi m1",
            "bessemer node rescue m1 --password-file ./password --wait",
            "bessemer node unrescue m1 --wait",
            "bessemer node service m1 --service-steps [{\"step\":\"reboot\"}] --wait",
            "bessemer node unhold m1",
            "bessemer node set m1 --protected true --protected-reason db --trait CUSTOM_GPU --lessee p --shard s",
            "bessemer node list --retired true --shard s --trait CUSTOM_GPU",
            "bessemer node maintenance on m1 --reason disk",
            "bessemer node history m1",
            "bessemer node delete m1",
            "bessemer port create m1 52:54:00:00:00:02",
            "bessemer port list --node m1",
            "bessemer port delete 52:54:00:00:00:02",
            "bessemer allocation create --resource-class gold --trait CUSTOM_GPU --candidate-node m1 --name a",
            "bessemer allocation create --node m1",
            "bessemer runbook create CUSTOM_BURN_IN --steps [{\"step\":\"burn_in\"}] --trait CUSTOM_GPU",
            "bessemer runbook list",
            "bessemer deploy-template replace CUSTOM_HT --steps [{\"step\":\"ht\",\"priority\":90}] --version 1",
            "bessemer deploy-template show CUSTOM_HT",
            "bessemer deploy-template delete CUSTOM_HT",
            "bessemer node clean m1 --runbook CUSTOM_BURN_IN",
            "bessemer node service m1 --runbook CUSTOM_BURN_IN",
            "bessemer node deploy m1 --image ./a.raw --instance-trait CUSTOM_HT",
            "bessemer allocation list --state error",
            "bessemer allocation show a",
            "bessemer allocation delete a",
            "bessemer image prepare /srv/a.qcow2 --name a",
            "bessemer image list",
            "bessemer image show a",
            "bessemer image verify a",
            "bessemer image pin a",
            "bessemer image unpin a",
            "bessemer image evict a --force",
            "bessemer event tail --from 1 --node m1 --type node.power_changed",
            "bessemer event verify",
            "bessemer --api http://a:1 --api http://b:1 cluster status -o yaml",
            "bessemer cluster add 4 10.0.0.4:6385",
            "bessemer cluster promote 4 --wait --timeout 10m",
            "bessemer cluster remove 1 --force",
            "bessemer cluster transfer-leader 2 -o json",
            "bessemer cluster snapshot",
            "bessemer conductor list -o wide",
            "bessemer conductor drain rack1 --wait --timeout 10m",
            "bessemer conductor drain rack1 --force",
            "bessemer conductor resume rack1",
            "bessemer event export /srv/history.jsonl",
            "bessemer event verify --file /srv/history.jsonl",
            "bessemer event replay /srv/history.jsonl --at 7 --node m1",
            "bessemer node show m1 --at 7",
            "bessemer cluster backup /srv/bessemer.backup",
            "bessemer cluster restore /srv/bessemer.backup --data-dir /tmp/d --member-id 1 --address 10.0.0.1:6385",
            "bessemer dev --data /tmp/d --listen 127.0.0.1:7000 --members 3 --nats nats://h --machines 4",
            "bessemer demo --image /srv/a.qcow2 --machines 5",
            "bessemer doctor -o json",
            "bessemer completion bash",
        ] {
            if let Err(error) = parse(line) {
                panic!("{line}\n{error}");
            }
        }
    }

    #[test]
    fn what_says_who_asks_parses() {
        for line in [
            "bessemer --ca-file ca.pem --token-file t node list",
            "bessemer --ca-file ca.pem --certificate-file c.pem --key-file k.pem node list",
            "bessemer pki init --dir /tmp/pki",
            "bessemer pki issue member 1 --dir /tmp/pki --host 10.0.0.1 --host api-1.example.org",
            "bessemer pki issue operator bob --dir /tmp/pki --project team-a --valid-for 30d",
            "bessemer token issue bob --role operator --project team-a --valid-for 90d",
            "bessemer secrets key",
            "bessemer secrets rotate",
            "bessemer dev --tls",
        ] {
            if let Err(error) = parse(line) {
                panic!("{line}\n{error}");
            }
        }
    }

    #[test]
    fn wrong_usage_is_refused_with_exit_code_2() {
        for line in [
            "bessemer node manage m1 --timeout 2m",
            "bessemer node manage m1 --wait --timeout soon",
            "bessemer node power sideways m1",
            "bessemer node set m1 --property memory_mb",
            "bessemer node create --command-id 7",
            "bessemer event verify --against abc",
            "bessemer cluster add 0 10.0.0.4:6385",
            "bessemer cluster add 4",
            "bessemer cluster promote x",
            "bessemer cluster backup",
            "bessemer conductor drain",
            "bessemer event replay /srv/history.jsonl --at 0",
            "bessemer cluster restore /srv/bessemer.backup --data-dir /tmp/d",
            "bessemer cluster promote 4 --timeout 1m",
            "bessemer dev --members 2",
            "bessemer allocation create",
            "bessemer demo --machines 0",
            "bessemer -o xml node list",
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn members_are_given_one_by_one_or_in_one_word() {
        for line in [
            "bessemer --api http://a:1,http://b:1 cluster status",
            "bessemer cluster status --api http://a:1 --api http://b:1",
        ] {
            assert_eq!(parse(line).unwrap().global.api, ["http://a:1", "http://b:1"]);
        }
    }

    #[test]
    fn the_help_tells_the_exit_codes() {
        let help = CommandLine::command().render_help().to_string();
        assert!(help.contains("4  the cluster cannot be reached"), "{help}");
    }
}
