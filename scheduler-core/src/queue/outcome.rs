//! What becomes of a row when its handler ends: decided without I/O.

use std::time::Duration;

use crate::clock::millis;
use crate::executor::chain;
use crate::queue::{HandleError, Handled};
use crate::retry::Backoff;
use crate::store::{RowGrant, RowStatus, SettledRow};

/// Why a handler was asked to return before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CutOff {
    Stop,
    Request,
    Deadline,
    /// As far as its process knows: a renewal failed, or came too late.
    LeaseLost,
}

/// How a handler ended.
#[derive(Debug)]
pub(super) enum Ended {
    Returned(Result<Handled, HandleError>),
    Panicked(String),
    /// It ignored its cancellation and was aborted.
    Aborted,
    /// It was claimed ahead, and never began.
    Unstarted,
}

/// What the row said when it was claimed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempts {
    pub(super) attempt_count: i32,
    pub(super) crash_count: i32,
    pub(super) max_attempts: i32,
}

/// What is to be written.
pub(super) fn settle(
    grant: RowGrant,
    attempts: Attempts,
    ended: Ended,
    cut_off: Option<CutOff>,
    backoff: &Backoff,
    random: f64,
) -> SettledRow {
    let row = SettledRow {
        grant,
        status: RowStatus::Queued,
        delay_ms: None,
        give_attempt_back: false,
        error: None,
        result: None,
    };
    let (error, permanent, retry_after) = match ended {
        // Done is done, whatever was asked meanwhile.
        Ended::Returned(Ok(Handled::Done(result))) => {
            let result = result.map(|result| result.to_string());
            return SettledRow { status: RowStatus::Succeeded, result, ..row };
        }
        Ended::Returned(Ok(Handled::Recorded(_))) => {
            return SettledRow { status: RowStatus::Succeeded, ..row };
        }
        Ended::Returned(Ok(Handled::Snooze(span))) => {
            let delay_ms = Some(millis(span));
            return SettledRow { delay_ms, give_attempt_back: true, ..row };
        }
        Ended::Returned(Err(error)) => {
            (chain(error.source.as_ref()), error.permanent, error.retry_after)
        }
        Ended::Panicked(message) => (message, false, None),
        Ended::Aborted => ("aborted: it ignored its cancellation".to_owned(), false, None),
        Ended::Unstarted => ("it had not begun".to_owned(), false, None),
    };
    match cut_off {
        // If the lease is lost in the database, too, nothing of this lands. If it lives there yet,
        // the row is free at once, and what happened is not its fault.
        Some(CutOff::Stop | CutOff::LeaseLost) => {
            return SettledRow { give_attempt_back: true, ..row };
        }
        Some(CutOff::Request) => {
            return SettledRow { status: RowStatus::Cancelled, error: Some(error), ..row };
        }
        Some(CutOff::Deadline) | None => {}
    }
    let error = if cut_off == Some(CutOff::Deadline) {
        format!("cut off at its deadline: {error}")
    } else {
        error
    };
    // Crashes are counted apart: they must not use up the attempts of an innocent row.
    let failures = attempts.attempt_count.saturating_sub(attempts.crash_count);
    if permanent || failures >= attempts.max_attempts {
        return SettledRow { status: RowStatus::Dead, error: Some(error), ..row };
    }
    let backoff = backoff.delay(u32::try_from(failures).unwrap_or(1), random);
    let delay = backoff.max(retry_after.unwrap_or(Duration::ZERO));
    SettledRow { delay_ms: Some(millis(delay)), error: Some(error), ..row }
}

/// The ends of a row whose own end the database refused, to be tried in turn: with the reason, or
/// without, should that be what it cannot store.
pub(super) fn refused(grant: &RowGrant, reason: &str) -> [SettledRow; 2] {
    let dead = |error: String| SettledRow {
        grant: grant.clone(),
        status: RowStatus::Dead,
        delay_ms: None,
        give_attempt_back: false,
        error: Some(error),
        result: None,
    };
    [dead(format!("its end was refused: {reason}")), dead("its end was refused".to_owned())]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::run::InstanceId;
    use crate::store::RowId;

    fn check(attempts: (i32, i32, i32), ended: Ended, cut_off: Option<CutOff>) -> SettledRow {
        let grant = RowGrant { id: RowId::Int(7), token: 3, holder: InstanceId::new() };
        let (attempt_count, crash_count, max_attempts) = attempts;
        let attempts = Attempts { attempt_count, crash_count, max_attempts };
        settle(grant, attempts, ended, cut_off, &Backoff::default(), 0.0)
    }

    fn failed() -> Ended {
        Ended::Returned(Err("no candles".into()))
    }

    #[test]
    fn each_end_has_its_outcome() {
        use RowStatus::{Cancelled, Dead, Queued, Succeeded};
        let done = || Ended::Returned(Ok(Handled::with_result(json!({"x": 1}))));
        let snooze = Ended::Returned(Ok(Handled::Snooze(Duration::from_secs(9))));
        let permanent = Ended::Returned(Err(HandleError::permanent("bad graph")));
        let later = Ended::Returned(Err(HandleError::retry_after("429", Duration::from_secs(60))));
        let table = [
            // (attempts, crashes, max), end, cut off -> status, delay, attempt given back
            ("done", check((1, 0, 3), done(), None), (Succeeded, None, false)),
            (
                "done while a stop was asked",
                check((1, 0, 3), done(), Some(CutOff::Stop)),
                (Succeeded, None, false),
            ),
            ("snoozed", check((1, 0, 3), snooze, None), (Queued, Some(9_000), true)),
            ("first failure", check((1, 0, 3), failed(), None), (Queued, Some(5_000), false)),
            ("second failure", check((2, 0, 3), failed(), None), (Queued, Some(10_000), false)),
            ("last failure", check((3, 0, 3), failed(), None), (Dead, None, false)),
            (
                "crashes are not failures",
                check((3, 2, 3), failed(), None),
                (Queued, Some(5_000), false),
            ),
            ("told when", check((1, 0, 3), later, None), (Queued, Some(60_000), false)),
            ("permanent", check((1, 0, 3), permanent, None), (Dead, None, false)),
            (
                "panic",
                check((1, 0, 3), Ended::Panicked("boom".into()), None),
                (Queued, Some(5_000), false),
            ),
            ("stopped", check((1, 0, 1), failed(), Some(CutOff::Stop)), (Queued, None, true)),
            (
                "aborted by a stop",
                check((1, 0, 1), Ended::Aborted, Some(CutOff::Stop)),
                (Queued, None, true),
            ),
            (
                "stopped before it began",
                check((1, 0, 1), Ended::Unstarted, Some(CutOff::Stop)),
                (Queued, None, true),
            ),
            (
                "cancelled before it began",
                check((1, 0, 3), Ended::Unstarted, Some(CutOff::Request)),
                (Cancelled, None, false),
            ),
            ("lost", check((3, 0, 3), failed(), Some(CutOff::LeaseLost)), (Queued, None, true)),
            (
                "done although its lease seemed to be lost",
                check((1, 0, 3), done(), Some(CutOff::LeaseLost)),
                (Succeeded, None, false),
            ),
            (
                "cancelled",
                check((1, 0, 3), failed(), Some(CutOff::Request)),
                (Cancelled, None, false),
            ),
            (
                "timed out",
                check((1, 0, 3), Ended::Aborted, Some(CutOff::Deadline)),
                (Queued, Some(5_000), false),
            ),
            (
                "timed out for the last time",
                check((3, 0, 3), failed(), Some(CutOff::Deadline)),
                (Dead, None, false),
            ),
        ];
        for (name, row, expected) in table {
            assert_eq!((row.status, row.delay_ms, row.give_attempt_back), expected, "{name}");
        }
    }

    #[test]
    fn the_whole_chain_of_an_error_is_kept() {
        let row = check((3, 0, 3), failed(), Some(CutOff::Deadline));
        assert_eq!(row.error.as_deref(), Some("cut off at its deadline: no candles"));
    }
}
