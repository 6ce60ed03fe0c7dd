//! Why a scheduler refuses.

use crate::definition::DefinitionError;
use crate::error::StoreError;
use crate::skew::ClockSkewError;
use crate::ticker::PulseError;

/// Why a registration is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The name is taken.
    #[error("job `{0}` is registered already; names are unique within a scheduler")]
    Duplicate(String),
    /// A field of the definition is wrong.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
}

/// Why a scheduler did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The database.
    #[error("the scheduler could not announce itself")]
    Store(#[from] StoreError),
    /// This host's clock is too far off the database's.
    #[error(transparent)]
    ClockSkew(#[from] ClockSkewError),
    /// The pulse.
    #[error(transparent)]
    Pulse(#[from] PulseError),
}

/// Why a job was not run once.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunOnceError {
    /// No job of that name.
    #[error("no job `{name}` is registered; there are: {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A run of it is under way.
    #[error("busy, held by {holder} until {until_ms} ms since the epoch")]
    Busy {
        /// The instance that runs it.
        holder: String,
        /// Until when, unless renewed; epoch milliseconds.
        until_ms: i64,
    },
    /// This host's clock is too far off the database's.
    #[error(transparent)]
    ClockSkew(#[from] ClockSkewError),
    /// The database.
    #[error("the run could not begin")]
    Store(#[from] StoreError),
}
