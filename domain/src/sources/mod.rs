//! Clients of the venues: how they are asked, and what their answers mean.
//!
//! [`Fetcher`] is the one way out over HTTP: bounded in time, size and rate, it tells failures
//! that pass from those that stay, retries the first, and opens a breaker when a host is down.
//! [`Socket`] is the one way to a stream.

mod breaker;
mod budget;
pub mod defillama;
mod failure;
mod fetcher;
pub mod hyperliquid;
mod language_model;
pub mod polymarket;
mod socket;
mod tls;
mod urls;

pub use breaker::{Admission, Breaker};
pub use budget::{Budget, Priority};
pub use failure::{Answer, SourceError, read_answer};
pub use fetcher::{Fetcher, FetcherOptions, Request, Retry, Secret};
pub use language_model::{LanguageModel, LanguageModelOptions, Prices};
pub use socket::{Socket, SocketError};
pub use urls::{DefillamaUrls, SourceUrls};
