//! The books of accounts, for the proofs.

use std::collections::BTreeMap;

use scheduler_core::StoreError;
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult};

use super::{decimal, unreadable};
use crate::prop::{BookedFill, Books, Discrepancy, LedgerAccount};
use crate::store::sql::read;

/// Loads the books of the next `limit` accounts after an id, in four statements of one moment if
/// `database` is a transaction that sees one; those that cannot be understood say so.
///
/// # Errors
/// The driver's error.
pub async fn load_books(
    database: &impl ConnectionTrait,
    after_id: i64,
    limit: u32,
) -> Result<BTreeMap<i64, Result<Books, Discrepancy>>, StoreError> {
    let sql = "SELECT id, cash FROM prop_accounts WHERE id > $1 ORDER BY id LIMIT $2";
    let values = [after_id.into(), i64::from(limit).into()];
    let accounts: Vec<CashRow> = read(database, "load balances", sql, values).await?;
    let Some(last_id) = accounts.last().map(|account| account.id) else {
        return Ok(BTreeMap::new());
    };
    let within = || [after_id.into(), last_id.into()];
    let sql = "SELECT t.account_id, t.id AS transaction_id, p.ledger_account, p.amount
               FROM prop_ledger_transactions AS t
               LEFT JOIN prop_ledger_postings AS p ON p.transaction_id = t.id
               WHERE t.account_id > $1 AND t.account_id <= $2";
    let postings: Vec<PostingRow> = read(database, "load postings", sql, within()).await?;
    let sql = "SELECT account_id, symbol, size, price, realized, fee FROM prop_fills
               WHERE account_id > $1 AND account_id <= $2 ORDER BY account_id, id";
    let fills: Vec<FillRow> = read(database, "load fills", sql, within()).await?;
    let sql = "SELECT account_id, symbol, size, entry FROM prop_positions
               WHERE account_id > $1 AND account_id <= $2";
    let positions: Vec<PositionRow> = read(database, "load positions", sql, within()).await?;

    let mut books = BTreeMap::new();
    for CashRow { id, cash } in accounts {
        let read = decimal("cash", &cash);
        insert(&mut books, id, read.map(|cash| Books { account_id: id, cash, ..Books::default() }));
    }
    for row in postings {
        change(&mut books, row.account_id, |books| {
            let (Some(account), Some(amount)) = (&row.ledger_account, &row.amount) else {
                books.empty.push(row.transaction_id);
                return Ok(());
            };
            let account = LedgerAccount::of_word(account)
                .ok_or_else(|| unreadable("ledger_account", account))?;
            let amount = decimal("amount", amount)?;
            books.postings.push((row.transaction_id, account, amount));
            Ok(())
        });
    }
    for row in fills {
        change(&mut books, row.account_id, |books| {
            let (size, price) = (decimal("size", &row.size)?, decimal("price", &row.price)?);
            let (realized, fee) = (decimal("realized", &row.realized)?, decimal("fee", &row.fee)?);
            books.fills.push(BookedFill { symbol: row.symbol, size, price, realized, fee });
            Ok(())
        });
    }
    for row in positions {
        change(&mut books, row.account_id, |books| {
            let held = (decimal("size", &row.size)?, decimal("entry", &row.entry)?);
            books.positions.insert(row.symbol, held);
            Ok(())
        });
    }
    Ok(books)
}

type Read = BTreeMap<i64, Result<Books, Discrepancy>>;

fn insert(books: &mut Read, account_id: i64, read: Result<Books, DbErr>) {
    let read =
        read.map_err(|error| Discrepancy::Unreadable { account_id, reason: error.to_string() });
    books.insert(account_id, read);
}

/// Adds a row to an account's books, or says that it cannot be understood.
fn change(books: &mut Read, account_id: i64, add: impl FnOnce(&mut Books) -> Result<(), DbErr>) {
    let Some(Ok(of_account)) = books.get_mut(&account_id) else { return };
    if let Err(error) = add(of_account) {
        insert(books, account_id, Err(error));
    }
}

#[derive(FromQueryResult)]
struct CashRow {
    id: i64,
    cash: String,
}

#[derive(FromQueryResult)]
struct PostingRow {
    account_id: i64,
    transaction_id: i64,
    ledger_account: Option<String>,
    amount: Option<String>,
}

#[derive(FromQueryResult)]
struct FillRow {
    account_id: i64,
    symbol: String,
    size: String,
    price: String,
    realized: String,
    fee: String,
}

#[derive(FromQueryResult)]
struct PositionRow {
    account_id: i64,
    symbol: String,
    size: String,
    entry: String,
}
