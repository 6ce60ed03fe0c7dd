//! The tables of prop accounts. Any number of accounts is loaded, and any number of plans saved, in
//! a constant number of statements.
//!
//! Who saves says which version of an account he saw: of a decision and a mark that race, the
//! second finds another version, writes nothing, and plans anew.

mod load;
mod market;
mod open;
mod proof;
mod prune;
mod save;

pub use load::{Loaded, UnreadableAccount, find, find_due, find_filled};
pub use market::load_funding;
pub use open::{NewAccount, Opened, open};
pub use proof::load_books;
pub use prune::{prune_events, prune_snapshots};
pub use save::{note, save, touch};

use rust_decimal::Decimal;
use sea_orm::DbErr;

/// A decimal of a column.
fn decimal(column: &str, text: &str) -> Result<Decimal, DbErr> {
    text.parse().map_err(|_| unreadable(column, text))
}

/// A column that holds what it cannot.
fn unreadable(column: &str, text: &str) -> DbErr {
    let shown = &text[..text.floor_char_boundary(40)];
    DbErr::Custom(format!("column `{column}` holds `{shown}`"))
}
