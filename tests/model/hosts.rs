//! What a process has in memory.

use crate::database::{Firing, Status};

/// A process: what it decided at its last look, the transaction in which it begins that, and the
/// runs that it believes to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Host {
    pub(crate) driver: Driver,
    pub(crate) held: Vec<Held>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Driver {
    #[default]
    Asleep,
    /// It has looked and decided, and the world goes on.
    Decided(Vec<Firing>),
    /// ADVANCE and CLOSE_INTERRUPTED have run and hold their rows' locks; true: the firing won.
    Begun(Vec<(Firing, bool)>),
}

/// A run that this process believes to hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Held {
    /// The place of its row.
    pub(crate) run: usize,
    pub(crate) token: i64,
    pub(crate) stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Stage {
    Working,
    /// A transaction is open in which the fence held.
    Fenced,
    /// Its effect is committed.
    Done,
    /// Whether its effect is committed it cannot know: the answer was lost.
    Unsure,
    /// Its end is to be recorded, maybe not for the first time.
    Ending(Status),
}

impl Driver {
    /// Whether its open transaction has the schedule row: ADVANCE takes it, and `lock_in_order` for
    /// the end of an interrupted run.
    pub(crate) fn locks_the_schedule(&self) -> bool {
        self.won().any(|firing| firing.advance.is_some() || firing.interrupted.is_some())
    }

    /// Whether its open transaction has this run's row.
    pub(crate) fn locks_the_run(&self, run: usize) -> bool {
        self.won().any(|firing| firing.interrupted == Some(run))
    }

    fn won(&self) -> impl Iterator<Item = &Firing> {
        let begun: &[(Firing, bool)] = match self {
            Self::Begun(begun) => begun,
            Self::Asleep | Self::Decided(_) => &[],
        };
        begun.iter().filter(|(_, won)| *won).map(|(firing, _)| firing)
    }
}
