//! Auditions, promotions, and the slots of the arena: rules only.
//!
//! ```text
//!           queue          open account        due: breach, target or the end of the window
//!  draft ─────────▶ queued ──────────▶ running ──┬─▶ passed        ─▶ promotion queue ─▶ slot
//!    │                │                   │      ├─▶ failed
//!    │                │                   │      ├─▶ expired
//!    └────────────────┴───────────────────┴─▶    └─▶ inconclusive
//!                 cancelled
//! ```
//!
//! No other arrow is allowed, and what has an end stays at it: [`Audition::transition`] is the one
//! way to move. Each move counts the audition's version up, so that of two who move it from the
//! same version one wins, and each is written as a row of `audition_events` with its evidence.
//!
//! A clone whose audition failed, or that left the arena, waits a day for its next.
//!
//! A breach beats a target that was reached on the same mark. An audition without a target asks to
//! survive its window; one with a target passes as soon as everything asked for is there, and
//! expires with its window. A passed audition waits for its clone's public profile to be approved;
//! then it stands in the queue for promotion, by [`score`].

mod audition;
mod progress;
mod promotion;
mod rules;
mod verdict;

pub use audition::{
    Audition, AuditionReason, AuditionStatus, COOL_DOWN_MS, NotAllowed, Transition,
};
pub use progress::{AuditionDay, DecisionCounts, Progress};
pub use promotion::{Candidate, Rejection, check_eligible, score};
pub use rules::{AuditionRules, AuditionRulesError, Consistency, ConsistencyBase};
pub use verdict::{Breach, Missing, Verdict, judge};
