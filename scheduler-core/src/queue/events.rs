//! What this process's consumer does with its rows, told to those who listen.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::{self, error::RecvError};

use crate::store::{Claimed, RowGrant, RowId, RowStatus, SettledRow};

/// Something that a consumer did. Ends are told after they are recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueEvent {
    /// A row was claimed here.
    Claimed {
        /// The row.
        id: RowId,
        /// Which attempt it is, from 1.
        attempt: i32,
    },
    /// A row is done.
    Succeeded {
        /// The row.
        id: RowId,
    },
    /// A row failed and is tried again.
    Retried {
        /// The row.
        id: RowId,
        /// Not before this span has passed.
        delay: Duration,
        /// Why it failed: the whole chain.
        error: String,
    },
    /// A row is put off, as its handler asked.
    Snoozed {
        /// The row.
        id: RowId,
        /// For this long.
        delay: Duration,
    },
    /// A row went back as if it had never been claimed: the process stops, or did not keep its lease.
    Released {
        /// The row.
        id: RowId,
    },
    /// A row failed for good.
    Dead {
        /// The row.
        id: RowId,
        /// Why: the whole chain.
        error: String,
    },
    /// A row ended because somebody asked for it.
    Cancelled {
        /// The row.
        id: RowId,
    },
    /// A row's lease was lost: its end was not recorded, and it runs again.
    Lost {
        /// The row.
        id: RowId,
    },
    /// Rows of dead processes were put back here.
    Reclaimed {
        /// How many.
        rows: u64,
    },
    /// Rows whose processes died too often were found here, and are dead.
    Quarantined {
        /// How many.
        rows: u64,
    },
    /// This listener was too slow: the oldest events that it had not seen are gone.
    Overrun {
        /// How many.
        lost: u64,
    },
}

/// Events that an idle listener may fall behind before it loses the oldest.
const KEPT: usize = 8_192;

/// The events of one consumer, from when it was asked for; see
/// [`Consumer::events`](super::Consumer::events).
#[derive(Debug)]
pub struct QueueEvents(broadcast::Receiver<QueueEvent>);

impl QueueEvents {
    /// The next event; `None` when the consumer is gone. Cancellation safe.
    pub async fn next(&mut self) -> Option<QueueEvent> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(lost)) => Some(QueueEvent::Overrun { lost }),
            Err(RecvError::Closed) => None,
        }
    }
}

/// Where a consumer tells.
pub(super) struct RowTeller {
    /// The consumer's name, as figures have it.
    #[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "figures have it"))]
    queue: Arc<str>,
    events: broadcast::Sender<QueueEvent>,
}

impl RowTeller {
    pub(super) fn new(queue: &str) -> Self {
        Self { queue: Arc::from(queue), events: broadcast::Sender::new(KEPT) }
    }

    pub(super) fn listen(&self) -> QueueEvents {
        QueueEvents(self.events.subscribe())
    }

    /// Nothing is made for nobody.
    fn tell(&self, events: impl Iterator<Item = QueueEvent>) {
        if self.events.receiver_count() > 0 {
            events.for_each(|event| _ = self.events.send(event));
        }
    }

    pub(super) fn tell_claimed(&self, claimed: &Claimed) {
        #[cfg(feature = "metrics")]
        crate::metrics::count_claim(&self.queue, claimed);
        let reclaimed = Some(claimed.reclaimed).filter(|rows| *rows > 0);
        let quarantined = Some(claimed.quarantined).filter(|rows| *rows > 0);
        let rows = claimed.rows.iter().map(|row| QueueEvent::Claimed {
            id: row.grant.id.clone(),
            attempt: row.attempt_count,
        });
        let reclaimed = reclaimed.map(|rows| QueueEvent::Reclaimed { rows });
        let quarantined = quarantined.map(|rows| QueueEvent::Quarantined { rows });
        self.tell(reclaimed.into_iter().chain(quarantined).chain(rows));
    }

    /// Tells how rows ended, of which these were still held.
    pub(super) fn tell_ended(&self, ends: &[SettledRow], held: impl Fn(&RowGrant) -> bool) {
        #[cfg(feature = "metrics")]
        crate::metrics::count_ends(&self.queue, ends, &held);
        self.tell(ends.iter().map(|row| if held(&row.grant) { ended(row) } else { lost(row) }));
    }

    /// Notes how long a handler took.
    pub(super) fn note_handled(&self, took: Duration) {
        #[cfg(feature = "metrics")]
        crate::metrics::time_row(&self.queue, took);
        #[cfg(not(feature = "metrics"))]
        let _ = took;
    }
}

fn lost(row: &SettledRow) -> QueueEvent {
    QueueEvent::Lost { id: row.grant.id.clone() }
}

fn ended(row: &SettledRow) -> QueueEvent {
    let id = row.grant.id.clone();
    let error = || row.error.clone().unwrap_or_default();
    let delay = Duration::from_millis(row.delay_ms.unwrap_or_default().unsigned_abs());
    match Outcome::of(row) {
        Outcome::Succeeded => QueueEvent::Succeeded { id },
        Outcome::Retried => QueueEvent::Retried { id, delay, error: error() },
        Outcome::Snoozed => QueueEvent::Snoozed { id, delay },
        Outcome::Released => QueueEvent::Released { id },
        Outcome::Dead => QueueEvent::Dead { id, error: error() },
        Outcome::Cancelled => QueueEvent::Cancelled { id },
    }
}

/// How a row's claim ended, in the words of the figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Succeeded,
    Retried,
    Snoozed,
    Released,
    Dead,
    Cancelled,
}

impl Outcome {
    pub(crate) fn of(row: &SettledRow) -> Self {
        match row.status {
            RowStatus::Succeeded => Self::Succeeded,
            RowStatus::Dead => Self::Dead,
            RowStatus::Cancelled => Self::Cancelled,
            RowStatus::Queued | RowStatus::Running => match (row.give_attempt_back, row.delay_ms) {
                (false, _) => Self::Retried,
                (true, Some(_)) => Self::Snoozed,
                (true, None) => Self::Released,
            },
        }
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Retried => "retried",
            Self::Snoozed => "snoozed",
            Self::Released => "released",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::InstanceId;

    fn row(status: RowStatus) -> SettledRow {
        SettledRow {
            grant: RowGrant { id: RowId::Int(7), token: 1, holder: InstanceId::new() },
            status,
            delay_ms: None,
            give_attempt_back: false,
            error: Some("no".into()),
            result: None,
        }
    }

    #[tokio::test]
    async fn a_slow_listener_is_told_how_many_it_lost_and_holds_nobody_up() {
        let teller = RowTeller::new("mails");
        teller.tell_ended(&[row(RowStatus::Succeeded)], |_| true);
        let mut events = teller.listen();
        let ends = vec![row(RowStatus::Succeeded); KEPT + 2];
        teller.tell_ended(&ends, |_| true);
        drop(teller);
        assert_eq!(events.next().await, Some(QueueEvent::Overrun { lost: 2 }));
        let mut rest = 0;
        while let Some(event) = events.next().await {
            assert_eq!(event, QueueEvent::Succeeded { id: RowId::Int(7) });
            rest += 1;
        }
        assert_eq!(rest, KEPT);
    }

    #[tokio::test]
    async fn each_end_is_told_as_what_it_is() {
        let id = RowId::Int(7);
        let delay = Duration::from_millis(9);
        let queued = |delay_ms, give_attempt_back| SettledRow {
            delay_ms,
            give_attempt_back,
            ..row(RowStatus::Queued)
        };
        let table = [
            (row(RowStatus::Succeeded), QueueEvent::Succeeded { id: id.clone() }),
            (
                queued(Some(9), false),
                QueueEvent::Retried { id: id.clone(), delay, error: "no".into() },
            ),
            (queued(Some(9), true), QueueEvent::Snoozed { id: id.clone(), delay }),
            (queued(None, true), QueueEvent::Released { id: id.clone() }),
            (row(RowStatus::Dead), QueueEvent::Dead { id: id.clone(), error: "no".into() }),
            (row(RowStatus::Cancelled), QueueEvent::Cancelled { id: id.clone() }),
        ];
        let teller = RowTeller::new("mails");
        let mut events = teller.listen();
        for (end, expected) in table {
            teller.tell_ended(std::slice::from_ref(&end), |_| true);
            assert_eq!(events.next().await, Some(expected));
            teller.tell_ended(&[end], |_| false);
            assert_eq!(events.next().await, Some(QueueEvent::Lost { id: id.clone() }));
        }
        let claimed = Claimed { reclaimed: 2, quarantined: 1, ..Claimed::default() };
        teller.tell_claimed(&claimed);
        assert_eq!(events.next().await, Some(QueueEvent::Reclaimed { rows: 2 }));
        assert_eq!(events.next().await, Some(QueueEvent::Quarantined { rows: 1 }));
    }
}
