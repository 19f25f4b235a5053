//! Defects built in on purpose, by tests only: each must be found by an invariant, or that invariant proves nothing.

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// An agent that is asked again for a task it has ended begins it again.
    AgentForgetsAnswers,
    /// Agents write the partition table first.
    TableFirst,
    /// Publishers publish without expecting anything of the stream.
    PublisherSkipsFence,
    /// Publishers never look whether the stream was emptied.
    PublisherSkipsAudit,
    /// A conductor acts on as if it were always heard.
    ConductorIgnoresLease,
    /// Conductors miss some of the changes that they must look at.
    ConductorMissesChanges,
    /// A member's snapshot holds no outcomes.
    SnapshotWithoutOutcomes,
    /// A member that comes back has lost an event.
    MemberLosesEvent,
}
