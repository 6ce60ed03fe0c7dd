//! The rows that this process holds: claimed and waiting for a place, running, or ended and not yet
//! recorded.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::outcome::CutOff;
use super::{NO_NEWS, locked};
use crate::store::{ClaimedRow, RowGrant};

/// A row that is held here.
pub(super) struct HeldRow {
    pub(super) cancellation: CancellationToken,
    pub(super) cut_off: Arc<Mutex<Option<CutOff>>>,
    pub(super) progress: Arc<AtomicI64>,
    /// Rows whose process died before run alone.
    alone: bool,
    /// When the lease ends unless renewed, as this process knows it.
    pub(super) expires_at_ms: i64,
    pub(super) lost: bool,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting { noted: bool },
    Running { since: Instant, noted: bool },
    Ended,
}

impl HeldRow {
    /// The lease is gone: what the handler writes from now on does not land.
    pub(super) fn lose(&mut self) {
        self.lost = true;
        locked(&self.cut_off).get_or_insert(CutOff::LeaseLost);
        self.cancellation.cancel();
    }
}

/// A row that begins now.
pub(super) struct Begun {
    pub(super) row: ClaimedRow,
    pub(super) cancellation: CancellationToken,
    pub(super) cut_off: Arc<Mutex<Option<CutOff>>>,
    pub(super) progress: Arc<AtomicI64>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Held {
    rows: HashMap<RowGrant, HeldRow>,
    waiting: VecDeque<ClaimedRow>,
    running: usize,
    /// Rows that run alone and have not ended.
    alone: usize,
}

impl Held {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn running(&self) -> usize {
        self.running
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Rows that take a place now or will.
    pub(super) fn active(&self) -> usize {
        self.running + self.waiting.len()
    }

    pub(super) fn runs_alone(&self) -> bool {
        self.alone > 0
    }

    pub(super) fn rows(&mut self) -> &mut HashMap<RowGrant, HeldRow> {
        &mut self.rows
    }

    /// Takes a row in; `noted` says that the database counts it as begun.
    pub(super) fn add(&mut self, row: ClaimedRow, expires_at_ms: i64, noted: bool) {
        let held = HeldRow {
            cancellation: CancellationToken::new(),
            cut_off: Arc::default(),
            progress: Arc::new(AtomicI64::new(NO_NEWS)),
            alone: row.crash_count > 0,
            expires_at_ms,
            lost: false,
            stage: Stage::Waiting { noted },
        };
        self.alone += usize::from(held.alone);
        self.rows.insert(row.grant.clone(), held);
        self.waiting.push_back(row);
    }

    /// The next row, if there is a place for it. One whose lease has ended meanwhile, as after a freeze,
    /// is lost before its handler sees it.
    pub(super) fn begin(&mut self, places: usize, now_ms: i64) -> Option<Begun> {
        if self.running >= places {
            return None;
        }
        let row = self.waiting.pop_front()?;
        let held = self.rows.get_mut(&row.grant)?;
        if held.expires_at_ms <= now_ms {
            held.lose();
        }
        let noted = held.stage == Stage::Waiting { noted: true };
        held.stage = Stage::Running { since: Instant::now(), noted };
        self.running += 1;
        let (cancellation, cut_off) = (held.cancellation.clone(), Arc::clone(&held.cut_off));
        Some(Begun { row, cancellation, cut_off, progress: Arc::clone(&held.progress) })
    }

    /// Its handler has ended: its place is free, its end is still to be recorded.
    pub(super) fn end(&mut self, grant: &RowGrant) {
        if let Some(row) = self.rows.get_mut(grant) {
            row.stage = Stage::Ended;
            self.alone -= usize::from(row.alone);
        }
        self.running -= 1;
    }

    /// What waits is not to begin any more.
    pub(super) fn release(&mut self) -> Vec<ClaimedRow> {
        for row in &self.waiting {
            if let Some(held) = self.rows.get_mut(&row.grant) {
                held.stage = Stage::Ended;
                self.alone -= usize::from(held.alone);
            }
        }
        self.waiting.drain(..).collect()
    }

    /// Rows that began before `before`, and that the database does not know to have begun.
    pub(super) fn unnoted(&self, before: Instant) -> Vec<RowGrant> {
        let is_old = |row: &HeldRow| matches!(row.stage, Stage::Running { since, noted: false } if since <= before);
        self.rows.iter().filter(|(_, row)| is_old(row)).map(|(grant, _)| grant.clone()).collect()
    }

    pub(super) fn note(&mut self, grants: &[RowGrant]) {
        for grant in grants {
            if let Some(HeldRow { stage: Stage::Running { noted, .. }, .. }) =
                self.rows.get_mut(grant)
            {
                *noted = true;
            }
        }
    }

    /// Whether a row runs of which the database does not know that it has begun.
    pub(super) fn has_unnoted(&self) -> bool {
        self.rows.values().any(|row| matches!(row.stage, Stage::Running { noted: false, .. }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::run::InstanceId;
    use crate::store::{RowColumns, RowId};

    fn claimed(id: i64) -> ClaimedRow {
        ClaimedRow {
            grant: RowGrant { id: RowId::Int(id), token: 1, holder: InstanceId::new() },
            attempt_count: 1,
            crash_count: 0,
            max_attempts: 3,
            columns: RowColumns::Values(Map::new()),
        }
    }

    #[test]
    fn what_waited_beyond_its_lease_is_lost_when_its_place_comes() {
        let mut held = Held::default();
        for (id, expires_at_ms) in [(1, 60), (2, 61)] {
            held.add(claimed(id), expires_at_ms, false);
        }
        let mut begin = || {
            let begun = held.begin(2, 60).expect("a place");
            let cut_off = *locked(&begun.cut_off);
            (begun.row.grant.id, cut_off, begun.cancellation.is_cancelled())
        };
        assert_eq!(begin(), (RowId::Int(1), Some(CutOff::LeaseLost), true));
        assert_eq!(begin(), (RowId::Int(2), None, false));
    }
}
