#![doc = include_str!("../README.md")]

#[cfg(not(any(feature = "sqlite", feature = "postgres")))]
compile_error!(
    "scheduler-core needs a database: enable its feature `sqlite` (the default) or `postgres`"
);

mod cadence;
mod catch_up;
mod chance;
mod clock;
mod compute;
mod definition;
mod driver;
mod error;
mod events;
mod executor;
#[cfg(any(doc, doctest))]
pub mod guide;
mod heartbeat;
mod isolate;
mod job;
mod keeper;
mod lease;
mod local;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "migration")]
pub mod migration;
mod plan;
pub mod queue;
mod recorder;
mod retry;
mod run;
mod scheduler;
mod signal;
mod skew;
mod stop;
pub mod store;
pub mod testing;
mod ticker;

pub use cadence::{Cadence, CadenceError, Cron, Fire, FireNote};
pub use clock::{Clock, SystemClock};
pub use definition::{
    DefinitionError, History, JobDefinition, Misfire, OnInterrupt, Overlap, Scope, StartPolicy,
};
pub use error::StoreError;
pub use events::{Event, Events};
pub use executor::RunReport;
pub use heartbeat::{HealthReport, HealthStatus, WorkerHealth, WorkerStatus};
pub use isolate::{Held, Isolated, Isolation, IsolationError, Item, ItemPolicy, ItemTally};
pub use job::{Job, JobContext, JobError, JobResult};
pub use lease::{FenceError, Lease, LeaseKey};
pub use plan::Missed;
pub use recorder::{
    HeartbeatRecorder, HeartbeatWrites, RecordTxn, Recorder, RunFinished, RunStarted,
};
pub use retry::Backoff;
pub use run::{InstanceId, RunId, RunStatus, RunSummary, Trigger, UnknownWord};
pub use scheduler::{
    RegisterError, RunOnceError, RunningScheduler, Scheduler, SignsOfLife, StartError,
};
pub use skew::{ClockSkew, ClockSkewError};
pub use stop::Shutdown;
#[cfg(feature = "postgres")]
pub use store::PostgresOptions;
#[cfg(feature = "sqlite")]
pub use store::SqliteOptions;
pub use store::Store;
pub use ticker::PulseError;
