//! Where an audition stands, and the one way to move it.

use serde_json::Value;

words! {
    /// Where an audition stands.
    AuditionStatus {
        /// It can still be changed.
        Draft = "draft",
        /// It waits to be started.
        Queued = "queued",
        /// Its account trades.
        Running = "running",
        /// Everything asked for was there.
        Passed = "passed",
        /// A rule was broken.
        Failed = "failed",
        /// The window ended before everything was there.
        Expired = "expired",
        /// Somebody called it off.
        Cancelled = "cancelled",
        /// It says nothing about the clone: its provider or the data were away too often.
        Inconclusive = "inconclusive",
    }
}

words! {
    /// Why an audition was moved.
    AuditionReason {
        /// Its owner asked for it.
        Requested = "requested",
        /// Its account was opened.
        AccountOpened = "account_opened",
        /// Its clone was paused or archived, or its strategy changed, before it started.
        NotEligible = "not_eligible",
        /// Its target was reached, and all that goes with it.
        TargetReached = "target_reached",
        /// It lasted its window without a breach.
        WindowSurvived = "window_survived",
        /// Equity fell below the day's floor.
        MaxDailyLoss = "max_daily_loss",
        /// Equity fell below the account's floor.
        MaxTotalLoss = "max_total_loss",
        /// Equity fell below the maintenance margin.
        Liquidated = "liquidated",
        /// Another rule of the account was broken.
        RuleViolation = "rule_violation",
        /// The window ended.
        TimeLimit = "time_limit",
        /// Its provider did not answer too often.
        ProviderSkips = "provider_skips",
        /// The market's data were away too often.
        DataOutage = "data_outage",
    }
}

/// How long a clone waits for its next audition after one that failed, or after it left the arena
/// (milliseconds): what failed is not tried again at once until luck passes it.
pub const COOL_DOWN_MS: i64 = 24 * 3_600_000;

impl AuditionStatus {
    /// Whether nothing comes after it.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Draft | Self::Queued | Self::Running)
    }

    /// Whether the arrow from here to there is one of the module's.
    fn leads_to(self, to: Self) -> bool {
        match self {
            Self::Draft => matches!(to, Self::Queued | Self::Cancelled),
            Self::Queued => matches!(to, Self::Running | Self::Cancelled),
            Self::Running => to.is_final(),
            _ => false,
        }
    }
}

/// An audition as it was read: what a transition starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audition {
    /// Its id.
    pub id: i64,
    /// Where it stands.
    pub status: AuditionStatus,
    /// Counts its transitions.
    pub version: i64,
}

/// A move of an audition, to be written if its version is still the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    /// Whose.
    pub audition: Audition,
    /// Where to.
    pub to: AuditionStatus,
    /// Why.
    pub reason: AuditionReason,
    /// What the verdict can be made again from.
    pub evidence: Value,
}

/// An arrow that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("audition {id} is {}: it cannot become {}", from.as_str(), to.as_str())]
pub struct NotAllowed {
    /// The audition.
    pub id: i64,
    /// Where it stands.
    pub from: AuditionStatus,
    /// Where it should go.
    pub to: AuditionStatus,
}

impl Audition {
    /// Moves it.
    ///
    /// # Errors
    /// An arrow that the module does not have.
    pub fn transition(
        self,
        to: AuditionStatus,
        reason: AuditionReason,
        evidence: Value,
    ) -> Result<Transition, NotAllowed> {
        if !self.status.leads_to(to) {
            return Err(NotAllowed { id: self.id, from: self.status, to });
        }
        Ok(Transition { audition: self, to, reason, evidence })
    }
}

#[cfg(test)]
mod tests {
    use super::AuditionStatus::{Cancelled, Draft, Expired, Failed, Inconclusive, Passed};
    use super::AuditionStatus::{Queued, Running};
    use super::*;

    #[test]
    fn only_the_arrows_of_the_picture_are_allowed() {
        let arrows = [
            (Draft, Queued),
            (Draft, Cancelled),
            (Queued, Running),
            (Queued, Cancelled),
            (Running, Passed),
            (Running, Failed),
            (Running, Expired),
            (Running, Cancelled),
            (Running, Inconclusive),
        ];
        for from in AuditionStatus::ALL {
            for to in AuditionStatus::ALL {
                let audition = Audition { id: 7, status: *from, version: 3 };
                let moved = audition.transition(*to, AuditionReason::Requested, Value::Null);
                assert_eq!(moved.is_ok(), arrows.contains(&(*from, *to)), "{from:?} → {to:?}");
            }
        }
        let ended = Audition { id: 7, status: Passed, version: 3 };
        let error = ended.transition(Running, AuditionReason::Requested, Value::Null);
        assert_eq!(
            error.unwrap_err().to_string(),
            "audition 7 is passed: it cannot become running"
        );
    }

    #[test]
    fn words_lead_back() {
        for status in AuditionStatus::ALL {
            assert_eq!(AuditionStatus::of_word(status.as_str()), Some(*status));
        }
        assert_eq!(AuditionStatus::of_word("resting"), None);
        let reasons: std::collections::HashSet<_> =
            AuditionReason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(reasons.len(), AuditionReason::ALL.len());
    }
}
