//! What becomes of one audition, from what is known about it and its account.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::EvaluationError;
use super::window::take_back;
use crate::lifecycle::{
    AuditionReason, AuditionRules, AuditionStatus, Breach, Progress, Verdict, judge, score,
};
use crate::prop::AccountStatus;
use crate::store::audition_accounts::{AccountStanding, Asked};
use crate::store::auditions::{DueAudition, Move};

/// An account that ends with its audition.
pub(super) struct EndedAccount {
    pub(super) account_id: i64,
    /// The version that the verdict was made from.
    pub(super) version: i64,
    pub(super) status: AccountStatus,
}

/// What an audition comes to in a cycle.
pub(super) enum Step {
    /// It goes on, or waits.
    Wait,
    /// It starts.
    Start(Box<AuditionRules>),
    /// It ends, and its account with it.
    End(Box<Move>, Option<EndedAccount>),
}

/// Whose account has to tell, and up to when what it did counts.
pub(super) fn asked(audition: &DueAudition, now_ms: i64) -> Option<Asked> {
    let account_id = audition.account_id?;
    // Rules that cannot be read are said so at the step.
    let ends_at_ms = match audition.ends_at_ms {
        None => {
            AuditionRules::parse(&audition.rules).ok().and_then(|rules| end_of(audition, &rules))
        }
        known => known,
    };
    Some(Asked { account_id, ended_at_ms: ends_at_ms.filter(|ends_at_ms| *ends_at_ms <= now_ms) })
}

/// When the window of an audition that runs ends, epoch milliseconds.
fn end_of(audition: &DueAudition, rules: &AuditionRules) -> Option<i64> {
    audition.ends_at_ms.or_else(|| {
        audition.started_at_ms.map(|started_at_ms| started_at_ms.saturating_add(rules.window_ms))
    })
}

/// What becomes of an audition now. Of one whose window has ended what happened since decides
/// nothing, but that a breach is one whenever it is found.
pub(super) fn step(
    audition: &DueAudition,
    standings: &BTreeMap<i64, AccountStanding>,
    now_ms: i64,
) -> Result<Step, EvaluationError> {
    let rules = AuditionRules::parse(&audition.rules)?;
    let is_archived = audition.clone_status == "archived";
    if audition.audition.status == AuditionStatus::Queued {
        return match (is_archived || !audition.has_its_strategy, audition.clone_status.as_str()) {
            (true, _) => call_off(audition, None),
            (false, "active") => Ok(Step::Start(Box::new(rules))),
            // A pause is not the end: it waits.
            (false, _) => Ok(Step::Wait),
        };
    }
    let standing = match audition.account_id {
        Some(id) => Some(standings.get(&id).ok_or(EvaluationError::Account(id))?),
        None => None,
    };
    let is_open = |standing: &AccountStanding| {
        matches!(standing.status.as_str(), "active" | "halted_until_roll")
    };
    let closed_by_hand = standing.is_some_and(|standing| standing.status == "closed");
    if is_archived || !audition.has_its_strategy || closed_by_hand {
        return call_off(audition, standing.filter(|standing| is_open(standing)));
    }
    let progress = progress_of(&rules, standing);
    let ends_at_ms = end_of(audition, &rules);
    let verdict =
        judge(&rules, &progress, ends_at_ms.is_none_or(|ends_at_ms| ends_at_ms <= now_ms));
    let Verdict::Ended { status, reason, missing } = verdict else { return Ok(Step::Wait) };
    let evidence = json!({
        "rules": rules,
        "account_id": audition.account_id,
        "account_version": standing.map(|standing| standing.version),
        "marked_at_ms": standing.and_then(|standing| standing.marked_at_ms),
        "snapshot": standing.and_then(|standing| standing.snapshot.as_ref()),
        "ends_at_ms": ends_at_ms,
        "missing": missing,
        "progress": describe(&progress),
    });
    let transition = audition.audition.transition(status, reason, evidence)?;
    let passed = status == AuditionStatus::Passed;
    let score = passed.then(|| score(&progress));
    let account = standing.filter(|standing| is_open(standing));
    let account = account.and_then(|standing| {
        let status = if passed { AccountStatus::Passed } else { AccountStatus::Closed };
        Some(EndedAccount { account_id: audition.account_id?, version: standing.version, status })
    });
    Ok(Step::End(Box::new(Move { score, ..transition.into() }), account))
}

/// A clone that is gone or trades something else is not auditioned any more.
fn call_off(
    audition: &DueAudition,
    open: Option<&AccountStanding>,
) -> Result<Step, EvaluationError> {
    let evidence = json!({
        "clone_status": audition.clone_status,
        "has_its_strategy": audition.has_its_strategy,
    });
    let (to, reason) = (AuditionStatus::Cancelled, AuditionReason::NotEligible);
    let transition = audition.audition.transition(to, reason, evidence)?;
    let account = open.and_then(|standing| {
        let (account_id, version) = (audition.account_id?, standing.version);
        Some(EndedAccount { account_id, version, status: AccountStatus::Closed })
    });
    Ok(Step::End(Box::new(transition.into()), account))
}

fn progress_of(rules: &AuditionRules, standing: Option<&AccountStanding>) -> Progress {
    let Some(standing) = standing else {
        return Progress {
            breach: None,
            initial: rules.initial,
            balance: rules.initial,
            open_positions: 0,
            closed_trades: 0,
            days: Vec::new(),
            decisions: Default::default(),
        };
    };
    let breach = match standing.breach.as_deref() {
        _ if standing.status != "breached" => None,
        Some("max_daily_loss") => Some(Breach::DailyLoss),
        Some("max_total_loss") => Some(Breach::TotalLoss),
        Some("liquidated") => Some(Breach::Liquidated),
        _ => Some(Breach::Other),
    };
    let mut progress = Progress {
        breach,
        initial: standing.initial,
        balance: standing.cash,
        open_positions: standing.open_positions,
        closed_trades: standing.closed_trades,
        days: standing.days.clone(),
        decisions: standing.decisions,
    };
    if let Some(afterwards) = &standing.afterwards {
        take_back(&mut progress, afterwards, &rules.account);
    }
    progress
}

fn describe(progress: &Progress) -> Value {
    let days = progress
        .days
        .iter()
        .map(|day| json!([day.day, day.opening_balance, day.closing_balance, day.opened_position]));
    json!({
        "initial": progress.initial,
        "balance": progress.balance,
        "open_positions": progress.open_positions,
        "closed_trades": progress.closed_trades,
        "trading_days": progress.trading_days(),
        "best_day_share": progress.best_day_share(false),
        "days": days.collect::<Vec<_>>(),
        "decisions": progress.decisions.all,
        "provider_skips": progress.decisions.provider_skips,
        "data_skips": progress.decisions.data_skips,
    })
}
