//! `bessemer conductor`: who drives the nodes, and handing them over before a conductor is stopped.

use std::time::{Duration, Instant};

use bessemer_proto::v1::{
    Conductor, DrainConductorRequest, ListConductorsRequest, ResumeConductorRequest,
};
use clap::Subcommand;

use crate::arguments::duration;
use crate::failure::{Exit, Failure};
use crate::output::{Column, View, quantity};
use crate::session::Session;

/// Pause between two looks at a conductor that hands its nodes over.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

pub(crate) const CONDUCTORS: View<Conductor> = View {
    columns: &[
        Column { title: "CONDUCTOR", wide: false, cell: |conductor, _| conductor.id.clone() },
        Column { title: "STATE", wide: false, cell: |conductor, _| state(conductor) },
        Column {
            title: "FOR",
            wide: false,
            cell: |conductor, now| quantity::age(conductor.since.as_ref(), now),
        },
        Column {
            title: "NODES",
            wide: false,
            cell: |conductor, _| conductor.node_count.to_string(),
        },
        Column {
            title: "GROUP",
            wide: false,
            cell: |conductor, _| conductor.conductor_group.clone(),
        },
        Column {
            title: "HARDWARE TYPES",
            wide: false,
            cell: |conductor, _| conductor.hardware_types.join(","),
        },
        Column { title: "ADDRESS", wide: false, cell: |conductor, _| conductor.address.clone() },
    ],
    name: |conductor| conductor.id.clone(),
    fields: |_, _| Vec::new(),
};

/// What can be asked of conductors.
#[derive(Debug, Subcommand)]
pub(crate) enum ConductorCommand {
    /// All conductors that ever registered
    List,
    /// Have a conductor hand its nodes over, work in progress and all, and get no others
    Drain {
        /// Its id
        conductor: String,
        /// Also if no other conductor can take them over: they then wait until there is one
        #[arg(long, help_heading = "Safety")]
        force: bool,
        /// Wait until it has let go of every node that is worked on: then it can be stopped
        #[arg(long, help_heading = "Waiting")]
        wait: bool,
        /// Longest wait: 90, 90s, 10m, 2h. Without it, as long as it takes
        #[arg(long, value_name = "DURATION", value_parser = duration, requires = "wait",
              help_heading = "Waiting")]
        timeout: Option<Duration>,
    },
    /// Give a conductor nodes again
    Resume {
        /// Its id
        conductor: String,
    },
}

impl ConductorCommand {
    /// Does it.
    pub(crate) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::List => session.format.list(&conductors(session).await?, &CONDUCTORS),
            Self::Drain { conductor, force, wait, timeout } => {
                let request =
                    DrainConductorRequest { conductor, force, ..DrainConductorRequest::default() };
                let mut conductor = session.client.drain_conductor(request).await?;
                if wait {
                    conductor = until_drained(session, conductor, timeout).await?;
                }
                session.format.list(&[conductor], &CONDUCTORS)
            }
            Self::Resume { conductor } => {
                let request =
                    ResumeConductorRequest { conductor, ..ResumeConductorRequest::default() };
                let conductor = session.client.resume_conductor(request).await?;
                session.format.list(&[conductor], &CONDUCTORS)
            }
        }
    }
}

async fn conductors(session: &Session) -> Result<Vec<Conductor>, Failure> {
    Ok(session.client.list_conductors(ListConductorsRequest {}).await?.conductors)
}

async fn until_drained(
    session: &Session,
    mut conductor: Conductor,
    timeout: Option<Duration>,
) -> Result<Conductor, Failure> {
    let started = Instant::now();
    while conductor.handing_over_count > 0 {
        if timeout.is_some_and(|timeout| started.elapsed() >= timeout) {
            return Err(Failure::new(
                Exit::TimedOut,
                format!(
                    "conductor {} has yet to let go of {} nodes; it goes on doing so",
                    conductor.id, conductor.handing_over_count
                ),
            ));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        let now = conductors(session).await?.into_iter().find(|other| other.id == conductor.id);
        conductor = now.ok_or_else(|| {
            Failure::failed(format!("conductor {} is no longer known", conductor.id))
        })?;
    }
    Ok(conductor)
}

fn state(conductor: &Conductor) -> String {
    let state = if conductor.online { "online" } else { "offline" };
    match (conductor.draining, conductor.handing_over_count) {
        (false, _) => state.to_owned(),
        (true, 0) => format!("{state}, drained"),
        (true, count) => format!("{state}, draining {count}"),
    }
}
