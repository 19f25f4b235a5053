//! One request for many nodes: asked of all of them, shown together, and told apart where it failed.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bessemer_proto::v1::Node;
use futures::{StreamExt, stream};
use tokio::sync::Semaphore;

use super::columns::NODES;
use super::selection::{Meant, REQUESTS_MAX, Selection};
use super::steps;
use super::verdict::Goal;
use super::wait::{POLL_INTERVAL, follow, settle};
use crate::arguments::{Mutation, Version, Wait};
use crate::failure::{Exit, Failure};
use crate::output::quantity;
use crate::progress::{Plain, Screen};
use crate::session::Session;

/// How often what many nodes do is drawn.
const DRAW_INTERVAL: Duration = Duration::from_millis(200);

/// By so much each node lengthens the interval in which all are read.
const POLL_INTERVAL_EACH: Duration = Duration::from_millis(2);

/// Nodes that are drawn one by one; the others are counted.
const DRAWN_MAX: usize = 16;

/// What every verb takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Verb {
    #[command(flatten)]
    pub selection: Selection,
    #[command(flatten)]
    pub wait: Wait,
    #[command(flatten)]
    pub version: Version,
    #[command(flatten)]
    pub mutation: Mutation,
}

/// What a request takes that is the caller's and differs by node.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) node: String,
    pub(super) command_id: String,
    pub(super) version: u64,
}

impl Verb {
    /// Asks it of every node that is meant, and waits if told to. `ask` answers with the node and with what it is to come to.
    pub(super) async fn each(
        &self,
        session: &Session,
        ask: impl AsyncFn(Asked) -> Result<(Node, Goal), Failure>,
    ) -> Result<(), Failure> {
        let meant = self.selection.resolve(session).await?;
        if self.selection.is_dry_run() {
            return session.format.list(&meant.read(session).await?, &NODES);
        }
        match meant {
            Meant::One(node) => {
                let command_id = self.mutation.command_id();
                let asked = Asked { node, command_id, version: self.version.version };
                let (node, goal) = ask(asked).await?;
                settle(session, node, &goal, &self.wait).await
            }
            Meant::Many(nodes) => self.many(session, &nodes, ask).await,
        }
    }

    async fn many(
        &self,
        session: &Session,
        nodes: &[String],
        ask: impl AsyncFn(Asked) -> Result<(Node, Goal), Failure>,
    ) -> Result<(), Failure> {
        for (is_given, option) in
            [(self.version.version != 0, "--version"), (self.mutation.is_given(), "--command-id")]
        {
            if is_given {
                let count = nodes.len();
                return Err(Failure::refused(format!(
                    "{option} is of one node, and {count} are meant"
                )));
            }
        }
        let began = Instant::now();
        let board = Board::new(nodes.len());
        let requests = Semaphore::new(REQUESTS_MAX);
        let count = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
        let interval = POLL_INTERVAL.max(POLL_INTERVAL_EACH.saturating_mul(count));
        let one = async |name: &String| {
            let asked = {
                let _permit = requests.acquire().await;
                let command_id = self.mutation.command_id();
                ask(Asked { node: name.clone(), command_id, version: 0 }).await
            };
            let outcome = match asked {
                Ok((node, goal)) if self.wait.wait => {
                    let show = |node: &Node| board.show(name, node);
                    follow(session, node, &goal, self.wait.timeout, interval, show).await
                }
                Ok((node, _)) => Ok(node),
                Err(failure) => Err(failure),
            };
            board.ended(name, outcome.is_ok());
            (name.clone(), outcome)
        };
        let outcomes = stream::iter(nodes).map(&one).buffered(nodes.len()).collect();
        let outcomes = board.drawn_until(outcomes).await;
        report(session, outcomes, began.elapsed())
    }
}

/// Prints the nodes for which it went well, and says of each other one why it did not.
fn report(
    session: &Session,
    outcomes: Vec<(String, Result<Node, Failure>)>,
    took: Duration,
) -> Result<(), Failure> {
    let count = outcomes.len();
    let (mut nodes, mut failures) = (Vec::new(), Vec::new());
    for (name, outcome) in outcomes {
        match outcome {
            Ok(node) => nodes.push(node),
            Err(failure) => {
                eprintln!("{name}: {failure}");
                failures.push(failure.exit());
            }
        }
    }
    session.format.list(&nodes, &NODES)?;
    let worst = [Exit::Unreachable, Exit::Failed, Exit::TimedOut, Exit::Refused];
    let Some(exit) = worst.into_iter().find(|exit| failures.contains(exit)) else {
        return Ok(());
    };
    let (failed, took) = (failures.len(), quantity::duration(took));
    Err(Failure::new(exit, format!("{failed} of {count} nodes, after {took}: see above")))
}

/// Where many nodes stand.
struct Board {
    inner: Mutex<Standing>,
}

struct Standing {
    under_way: BTreeMap<String, Plain>,
    count: usize,
    done: usize,
    failed: usize,
}

impl Board {
    fn new(count: usize) -> Self {
        let standing = Standing { under_way: BTreeMap::new(), count, done: 0, failed: 0 };
        Self { inner: Mutex::new(standing) }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Standing) -> T) -> T {
        change(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn show(&self, name: &str, node: &Node) {
        self.change(|standing| standing.under_way.insert(name.to_owned(), steps::plain(node)));
    }

    fn ended(&self, name: &str, is_good: bool) {
        self.change(|standing| {
            standing.under_way.remove(name);
            *(if is_good { &mut standing.done } else { &mut standing.failed }) += 1;
        });
    }

    /// Draws now and then until the work has ended.
    async fn drawn_until<T>(&self, work: impl Future<Output = T>) -> T {
        let mut screen = Screen::stderr();
        let mut ticks = tokio::time::interval(DRAW_INTERVAL);
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => {
                    self.draw(&mut screen);
                    return done;
                }
                _ = ticks.tick() => self.draw(&mut screen),
            }
        }
    }

    fn draw(&self, screen: &mut Screen) {
        let (live, plain) = self.change(|standing| (standing.live(), standing.plain()));
        screen.draw(&live, &plain);
    }
}

impl Standing {
    fn counts(&self) -> String {
        let Self { under_way, count, done, failed } = self;
        format!("{count} nodes: {done} done, {failed} failed, {} under way", under_way.len())
    }

    fn live(&self) -> Vec<String> {
        let mut lines = vec![self.counts()];
        let width = self.under_way.values().map(|line| line.about.len()).max().unwrap_or_default();
        let drawn = self.under_way.values().take(DRAWN_MAX);
        lines.extend(
            drawn.map(|line| format!("  {:<width$}  {}  {}", line.about, line.stage, line.figures)),
        );
        if let Some(rest) = self.under_way.len().checked_sub(DRAWN_MAX).filter(|rest| *rest > 0) {
            lines.push(format!("  and {rest} more"));
        }
        lines
    }

    /// A few nodes are told of one by one; of many, how many are done.
    fn plain(&self) -> Vec<Plain> {
        if self.count <= DRAWN_MAX {
            return self.under_way.values().cloned().collect();
        }
        let figures = format!("{} done, {} failed", self.done, self.failed);
        vec![Plain { about: format!("{} nodes", self.count), stage: "under way".into(), figures }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_nodes_are_counted_and_some_are_drawn() {
        let board = Board::new(40);
        for n in 0..20 {
            board.show(&format!("n{n:02}"), &Node::default());
        }
        board.ended("n00", true);
        board.ended("n01", false);
        let lines = board.change(|standing| standing.live());
        assert_eq!(lines[0], "40 nodes: 1 done, 1 failed, 18 under way");
        assert_eq!(lines.len(), 1 + DRAWN_MAX + 1);
        assert_eq!(lines.last().unwrap(), "  and 2 more");
        assert_eq!(board.change(|standing| standing.plain()).len(), 1);
    }
}
