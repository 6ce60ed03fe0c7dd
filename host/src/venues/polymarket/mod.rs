//! Polymarket: the catalogue (Gamma), the order books (CLOB) and their stream.

mod book;
mod catalogue;
mod clob;
mod contract;
mod gamma;
mod history;
mod shapes;
mod stream;
#[cfg(test)]
mod tests;

pub(crate) use self::catalogue::Catalogue;
pub(crate) use self::clob::Clob;
pub(crate) use self::gamma::Gamma;
pub(crate) use self::stream::serve;
