//! What a decision run is recorded as: hold, skip, rejection and error are different things.

use super::intent::{Intent, IntentKind};
use super::provider::{Output, ProviderError};
use crate::strategy::Side;

words! {
    /// What was decided.
    Action {
        /// To change nothing, on fresh data.
        Hold = "hold",
        /// To open a long position.
        OpenLong = "open_long",
        /// To open a short position.
        OpenShort = "open_short",
        /// To close.
        Close = "close",
        /// Nothing: nobody was asked, or the answer was of no use.
        None = "none",
    }
}

words! {
    /// What became of it.
    Status {
        /// Recorded, not yet begun.
        Pending = "pending",
        /// Under way.
        Running = "running",
        /// At least one fill.
        Executed = "executed",
        /// Nothing to execute: a hold, or a reason.
        Skipped = "skipped",
        /// There was an intent, the risk checks refused it.
        Rejected = "rejected",
        /// A fault of this program.
        Error = "error",
    }
}

words! {
    /// Why nothing was executed.
    SkipReason {
        /// The provider looked and chose to change nothing.
        Hold = "hold",
        /// The data are too old.
        StaleData = "stale_data",
        /// Data that the strategy reads are not there.
        MissingFeature = "missing_feature",
        /// Too few bars.
        Warmup = "warmup",
        /// The market cannot be traded.
        MarketClosedOrDelisted = "market_closed_or_delisted",
        /// The account is not active.
        AccountInactive = "account_inactive",
        /// The account lost its day's share.
        DailyHalt = "daily_halt",
        /// The clone trades no account: its intents are recorded, not executed.
        NoAccount = "no_account",
        /// The provider did not answer in time.
        ProviderTimeout = "provider_timeout",
        /// The provider failed.
        ProviderError = "provider_error",
        /// The provider's answer cannot be understood.
        ProviderMalformed = "provider_malformed",
        /// The provider asks for patience.
        RateLimited = "rate_limited",
        /// The clone has used up its day's tokens or money.
        BudgetExceeded = "budget_exceeded",
        /// Another host took over.
        LeaseLost = "lease_lost",
        /// The slot is older than one interval.
        Late = "late",
        /// The slot was decided already.
        Duplicate = "duplicate",
        /// An operator paused it.
        Paused = "paused",
    }
}

impl SkipReason {
    /// Whether the provider is to blame: an audition with many of these is inconclusive.
    #[must_use]
    pub fn is_the_providers(self) -> bool {
        matches!(
            self,
            Self::ProviderTimeout
                | Self::ProviderError
                | Self::ProviderMalformed
                | Self::RateLimited
                | Self::BudgetExceeded
        )
    }
}

/// What a run is recorded as. `reason` stands exactly where the status is skipped.
#[derive(Debug, Clone, PartialEq)]
pub struct Conclusion {
    /// What was decided.
    pub action: Action,
    /// What became of it.
    pub status: Status,
    /// Why nothing was executed.
    pub reason: Option<SkipReason>,
    /// What was proposed.
    pub intents: Vec<Intent>,
    /// What to tell people: the model's reason, or the failure.
    pub note: Option<String>,
}

/// A run that asked nobody.
#[must_use]
pub fn skipped(reason: SkipReason, note: Option<String>) -> Conclusion {
    Conclusion {
        action: Action::None,
        status: Status::Skipped,
        reason: Some(reason),
        intents: Vec::new(),
        note,
    }
}

/// Turns a provider's answer into what is recorded. Intents leave the run `running`: what becomes
/// of them is the account's to say, or `no_account`.
#[must_use]
pub fn conclude(answer: Result<Output, ProviderError>) -> Conclusion {
    match answer {
        Ok(Output::Hold { reason }) => Conclusion {
            action: Action::Hold,
            note: Some(reason),
            ..skipped(SkipReason::Hold, None)
        },
        Ok(Output::Intents(intents)) => match intents.first().map(action_of) {
            None => Conclusion { action: Action::Hold, ..skipped(SkipReason::Hold, None) },
            Some(action) => Conclusion {
                action,
                status: Status::Running,
                reason: None,
                note: intents.iter().find_map(|intent| intent.rationale.clone()),
                intents,
            },
        },
        Err(error) => skipped(reason_of(&error), Some(error.to_string())),
    }
}

fn action_of(intent: &Intent) -> Action {
    match intent.kind {
        IntentKind::Open { side: Side::Long, .. } => Action::OpenLong,
        IntentKind::Open { side: Side::Short, .. } => Action::OpenShort,
        IntentKind::Close => Action::Close,
    }
}

fn reason_of(error: &ProviderError) -> SkipReason {
    match error {
        ProviderError::Timeout { .. } => SkipReason::ProviderTimeout,
        ProviderError::RateLimited { .. } => SkipReason::RateLimited,
        ProviderError::Malformed(_) => SkipReason::ProviderMalformed,
        ProviderError::BudgetExceeded => SkipReason::BudgetExceeded,
        ProviderError::Unavailable(_)
        | ProviderError::Refused(_)
        | ProviderError::NotConfigured(_) => SkipReason::ProviderError,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn close() -> Intent {
        Intent {
            symbol: "BTC".into(),
            kind: IntentKind::Close,
            action_id: None,
            confidence: Some(0.7),
            rationale: Some("enough".into()),
        }
    }

    #[test]
    fn hold_skip_and_intent_are_recorded_apart() {
        let check = |answer, expected: (&str, &str, Option<&str>)| {
            let Conclusion { action, status, reason, .. } = conclude(answer);
            let found = (action.as_str(), status.as_str(), reason.map(SkipReason::as_str));
            assert_eq!(found, expected);
            assert_eq!(reason.is_some(), status == Status::Skipped);
        };
        check(Ok(Output::Hold { reason: "calm".into() }), ("hold", "skipped", Some("hold")));
        check(Ok(Output::Intents(vec![])), ("hold", "skipped", Some("hold")));
        check(Ok(Output::Intents(vec![close()])), ("close", "running", None));
        let failures = [
            (ProviderError::Timeout { limit: Duration::from_secs(20) }, "provider_timeout"),
            (ProviderError::RateLimited { retry_after: None }, "rate_limited"),
            (ProviderError::Unavailable("502".into()), "provider_error"),
            (ProviderError::Malformed("no JSON".into()), "provider_malformed"),
            (ProviderError::Refused("I cannot".into()), "provider_error"),
            (ProviderError::BudgetExceeded, "budget_exceeded"),
            (ProviderError::NotConfigured("no key".into()), "provider_error"),
        ];
        for (error, reason) in failures {
            check(Err(error), ("none", "skipped", Some(reason)));
        }
    }

    #[test]
    fn words_are_unique() {
        let words: std::collections::HashSet<_> =
            SkipReason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), SkipReason::ALL.len());
        assert_eq!(Action::ALL.len() + Status::ALL.len(), 11);
    }
}
