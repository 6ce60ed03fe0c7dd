//! What comes in from the venues: which channels there are, when their data are stale, which
//! values are refused.
//!
//! Rules only. The clients are in [`sources`](crate::sources), the work in
//! [`workers`](crate::workers).

mod channel;
mod freshness;
mod health;
mod instant;
mod jump;
mod minutes;
mod number;
mod price_guards;
mod quarantine;
mod reconnect;
mod reject;
mod rows;
mod sampling;
mod suspects;
mod witness;

pub use channel::{CHANNELS, Channel, How, Source, UnknownSource, find_channel};
pub use freshness::{ChannelState, Freshness, judge};
pub use health::{ChannelFacts, ChannelHealth, IngestionHealth, Standing};
pub use instant::instant;
pub use jump::{JumpGuard, JumpRule, Verdict};
pub use minutes::OpenMinutes;
pub use number::{NumberError, decimal, positive_decimal, statistic};
pub use price_guards::{PriceGuards, PriceKind};
pub use quarantine::Quarantine;
pub use reconnect::Reconnect;
pub use reject::{Reject, Rejects};
pub use rows::{Rows, name, not_in_the_future, prose, whole};
pub use sampling::ContextSampler;
pub use suspects::Suspects;
pub use witness::{Testimony, Witness};
