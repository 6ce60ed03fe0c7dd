//! One execution of a job: its identity, what started it, how it ended.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::chance;

/// One process start: a fresh UUID v7, never a host or pod name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId(Uuid);

/// One execution of one cycle: a UUID v7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(Uuid);

impl InstanceId {
    /// Who wrote down what no instance did: the nil UUID.
    pub(crate) const NOBODY: Self = Self(Uuid::nil());
}

macro_rules! uuid_id {
    ($id:ident) => {
        impl $id {
            /// A new identity, ordered by time of creation.
            #[must_use]
            pub fn new() -> Self {
                Self(chance::uuid())
            }
        }

        impl Default for $id {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $id {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}
uuid_id!(InstanceId);
uuid_id!(RunId);

/// A word that stands for none of the variants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is unknown; expected {expected}")]
pub struct UnknownWord {
    /// The word.
    pub word: String,
    /// What would be right.
    pub expected: &'static str,
}

/// Declares an enum whose variants are words in the database.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name { $($(#[$variant_meta])* $variant,)+ }

        impl $name {
            /// The word that stands in the database and in answers.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::run::UnknownWord;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::run::UnknownWord {
                        word: word.to_owned(),
                        expected: concat!("one of" $(, " ", $word)+),
                    }),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use words;

words! {
    /// What started a run.
    Trigger {
        /// The first run after a process start.
        Start = "start",
        /// A slot of the cadence.
        Schedule = "schedule",
        /// A person or a program asked.
        Manual = "manual",
        /// A slot that waited for the previous run to end.
        Buffered = "buffered",
        /// A slot whose earlier run was cut off by a crash or a stop.
        Rerun = "rerun",
    }
}

words! {
    /// How a run stands.
    RunStatus {
        /// Under a lease, now.
        Running = "running",
        /// Ended well.
        Succeeded = "succeeded",
        /// Returned an error or panicked.
        Failed = "failed",
        /// Slots that passed while nobody ran.
        Missed = "missed",
        /// Slots that came while the previous run was still under its lease.
        SkippedOverlap = "skipped_overlap",
        /// Cut off at its hard deadline.
        TimedOut = "timed_out",
        /// Cut off by a stop or a cancel request.
        Cancelled = "cancelled",
        /// Its lease expired or was granted to another: what it wrote after that did not land.
        LeaseLost = "lease_lost",
    }
}

impl RunStatus {
    /// Whether this end counts as an error in the heartbeat: a stop and a miss do not.
    #[must_use]
    pub const fn is_error(self) -> bool {
        matches!(self, Self::Failed | Self::TimedOut | Self::LeaseLost)
    }
}

/// What a cycle did: named counts and a JSON detail, shown by the heartbeat.
///
/// ```
/// use scheduler_core::RunSummary;
/// let summary = RunSummary::new().count("marked", 12).detail("slowest", "BTC");
/// assert_eq!(summary.to_json().to_string(), r#"{"marked":12,"slowest":"BTC"}"#);
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunSummary {
    fields: Map<String, Value>,
}

impl RunSummary {
    /// A summary that says nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a count.
    #[must_use]
    pub fn count(mut self, name: &str, count: u64) -> Self {
        self.fields.insert(name.to_owned(), count.into());
        self
    }

    /// Adds a detail. No secrets: summaries are stored and shown.
    #[must_use]
    pub fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// The summary as one JSON object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        Value::Object(self.fields.clone())
    }
}
