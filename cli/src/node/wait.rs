//! `--wait`: follows a node until it rests, and shows how far it is.

use std::time::{Duration, Instant, SystemTime};

use bessemer_proto::v1::{GetNodeRequest, Node};

use super::steps;
use super::verdict::{Goal, Verdict};
use crate::arguments::Wait;
use crate::failure::{Exit, Failure};
use crate::output::quantity;
use crate::progress::Screen;
use crate::session::Session;

/// How often a node is read while it is waited for; conductors tell their progress about as often.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Ends a request that starts work: at once, or when the node rests if that is waited for.
pub(super) async fn settle(
    session: &Session,
    node: Node,
    goal: &Goal,
    wait: &Wait,
) -> Result<(), Failure> {
    if !wait.wait {
        let sentence = match node.status.as_ref().map(|status| &status.target_provision_state) {
            Some(target) if !target.is_empty() => {
                format!("is `{}`, on its way to `{target}`", super::state(&node))
            }
            _ => format!("is `{}`", super::state(&node)),
        };
        return super::answer(session.format, &node, &sentence);
    }
    let began = Instant::now();
    let mut screen = Screen::stderr();
    let show = |node: &Node| {
        screen.draw(&steps::live(node, SystemTime::now()), &[steps::plain(node)]);
    };
    let node = follow(session, node, goal, wait.timeout, POLL_INTERVAL, show).await?;
    let took = quantity::duration(began.elapsed());
    let sentence = format!("is `{}` after {took}", super::state(&node));
    super::answer(session.format, &node, &sentence)
}

/// Reads a node every `interval` until it has come to the goal, or cannot any more; shows it each time.
pub(super) async fn follow(
    session: &Session,
    mut node: Node,
    goal: &Goal,
    timeout: Option<Duration>,
    interval: Duration,
    mut show: impl FnMut(&Node),
) -> Result<Node, Failure> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    loop {
        show(&node);
        match goal.verdict(&node) {
            Verdict::Reached => return Ok(node),
            Verdict::Failed { message, hint } => {
                let name = super::label(&node);
                let failure = Failure::failed(format!("node {name}: {message}"));
                return Err(failure.hint(hint));
            }
            Verdict::Pending => {}
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(timed_out(&node, timeout.unwrap_or_default()));
        }
        tokio::time::sleep(interval).await;
        let id = node.metadata.as_ref().map(|metadata| metadata.id.clone()).unwrap_or_default();
        node = session
            .client
            .get_node(GetNodeRequest { node: id, ..GetNodeRequest::default() })
            .await?;
    }
}

fn timed_out(node: &Node, timeout: Duration) -> Failure {
    let name = super::label(node);
    let waiting = node.status.as_ref().and_then(|status| status.waiting_on.as_ref());
    let waiting = waiting.map(|on| format!(", waiting for {}", on.what)).unwrap_or_default();
    let message = format!(
        "node {name} is still `{}` after {}{waiting}",
        super::state(node),
        quantity::duration(timeout)
    );
    Failure::new(Exit::TimedOut, message).hint(format!(
        "it goes on; `bessemer node show {name}` tells how far it is, `bessemer node abort {name}` stops it"
    ))
}
