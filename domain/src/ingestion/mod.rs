//! What comes in from the venues: which channels there are, when their data are stale, which
//! values are refused.
//!
//! Rules only. The clients are in [`sources`](crate::sources), the work in
//! [`workers`](crate::workers).

mod channel;
mod freshness;
mod health;
mod jump;
mod number;
mod quarantine;
mod reject;

pub use channel::{CHANNELS, Channel, How, Source, UnknownSource, find_channel};
pub use freshness::{ChannelState, Freshness, judge};
pub use health::{ChannelFacts, ChannelHealth, IngestionHealth, Standing};
pub use jump::{JumpGuard, JumpRule, Verdict};
pub use number::{NumberError, decimal, positive_decimal, statistic};
pub use quarantine::Quarantine;
pub use reject::{Reject, Rejects};
