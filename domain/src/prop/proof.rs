//! What must hold of an account's books, whatever happened to it.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::accounting::apply;
use super::ledger::LedgerAccount;

/// The books of an account, as they are stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Books {
    /// The account.
    pub account_id: i64,
    /// Its balance (USD).
    pub cash: Decimal,
    /// Postings: transaction, account of the ledger, amount (USD).
    pub postings: Vec<(i64, LedgerAccount, Decimal)>,
    /// Transactions that have no posting.
    pub empty: Vec<i64>,
    /// Fills in order.
    pub fills: Vec<BookedFill>,
    /// Positions by symbol: signed size and average price (USD).
    pub positions: BTreeMap<String, (Decimal, Decimal)>,
}

/// A fill, as far as the books rest on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookedFill {
    /// What was traded.
    pub symbol: String,
    /// Signed size.
    pub size: Decimal,
    /// Price (USD).
    pub price: Decimal,
    /// What closing earned (USD).
    pub realized: Decimal,
    /// What it cost (USD).
    pub fee: Decimal,
}

/// Books that do not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Discrepancy {
    /// The balance is not what was posted.
    #[error("account {account_id}: cash is {cash}, its postings sum to {posted}")]
    Cash {
        /// The account.
        account_id: i64,
        /// What its row says.
        cash: Decimal,
        /// What the ledger says.
        posted: Decimal,
    },
    /// Money came from nowhere.
    #[error("account {account_id}: transaction {transaction_id} is off by {imbalance}")]
    Unbalanced {
        /// The account.
        account_id: i64,
        /// The transaction.
        transaction_id: i64,
        /// What its postings sum to instead of zero.
        imbalance: Decimal,
    },
    /// A transaction moves nothing.
    #[error("account {account_id}: transaction {transaction_id} has no postings")]
    Empty {
        /// The account.
        account_id: i64,
        /// The transaction.
        transaction_id: i64,
    },
    /// The ledger has another sum than the fills that it was booked for.
    #[error(
        "account {account_id}: {what} of its fills sum to {filled}, those of its postings to {posted}"
    )]
    Fills {
        /// The account.
        account_id: i64,
        /// Of what: fees or realized results.
        what: &'static str,
        /// By the fills.
        filled: Decimal,
        /// By the ledger.
        posted: Decimal,
    },
    /// A position is not what was traded.
    #[error("account {account_id}: {symbol} is {stored} in its positions, {rebuilt} by its fills")]
    Position {
        /// The account.
        account_id: i64,
        /// What is held.
        symbol: String,
        /// Size and price of its row.
        stored: String,
        /// Size and price that the fills lead to.
        rebuilt: String,
    },
    /// A row that cannot be understood.
    #[error("account {account_id}: {reason}")]
    Unreadable {
        /// The account.
        account_id: i64,
        /// What is wrong.
        reason: String,
    },
}

impl Books {
    /// What does not hold.
    #[must_use]
    pub fn check(&self) -> Vec<Discrepancy> {
        let account_id = self.account_id;
        let mut found = Vec::new();
        let posted = self.posted_to(LedgerAccount::Cash);
        if posted != self.cash {
            found.push(Discrepancy::Cash { account_id, cash: self.cash, posted });
        }
        let mut transactions: BTreeMap<i64, Decimal> = BTreeMap::new();
        for (transaction, _, amount) in &self.postings {
            *transactions.entry(*transaction).or_default() += amount;
        }
        for &transaction_id in &self.empty {
            found.push(Discrepancy::Empty { account_id, transaction_id });
        }
        for (transaction_id, imbalance) in transactions {
            if !imbalance.is_zero() {
                found.push(Discrepancy::Unbalanced { account_id, transaction_id, imbalance });
            }
        }
        let of_fills = |part: fn(&BookedFill) -> Decimal| self.fills.iter().map(part).sum();
        // What cash pays, the other side gets.
        let sums: [(_, Decimal, _); 2] = [
            ("fees", of_fills(|fill| fill.fee), self.posted_to(LedgerAccount::Fees)),
            ("results", of_fills(|fill| fill.realized), -self.posted_to(LedgerAccount::Pnl)),
        ];
        for (what, filled, posted) in sums {
            if filled != posted {
                found.push(Discrepancy::Fills { account_id, what, filled, posted });
            }
        }
        let mut rebuilt: BTreeMap<&str, (Decimal, Decimal)> = BTreeMap::new();
        for BookedFill { symbol, size, price, .. } in &self.fills {
            let held = rebuilt.entry(symbol).or_default();
            let applied = apply(held.0, held.1, *size, *price);
            *held = (applied.size, applied.entry);
        }
        let symbols = self.positions.keys().map(String::as_str).chain(rebuilt.keys().copied());
        for symbol in symbols.collect::<std::collections::BTreeSet<_>>() {
            let stored = self.positions.get(symbol).copied().unwrap_or_default();
            let by_fills = rebuilt.get(symbol).copied().unwrap_or_default();
            if stored != by_fills {
                let shown = |(size, entry): (Decimal, Decimal)| format!("{size} @ {entry}");
                let (stored, rebuilt) = (shown(stored), shown(by_fills));
                let symbol = symbol.to_owned();
                found.push(Discrepancy::Position { account_id, symbol, stored, rebuilt });
            }
        }
        found
    }

    /// What an account of the ledger got (USD).
    fn posted_to(&self, account: LedgerAccount) -> Decimal {
        let of_account = self.postings.iter().filter(|posting| posting.1 == account);
        of_account.map(|posting| posting.2).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_hold_or_say_what_does_not() {
        let d = |text: &str| text.parse::<Decimal>().unwrap();
        let fill = |symbol: &str, size, price, realized, fee| BookedFill {
            symbol: symbol.to_owned(),
            size: d(size),
            price: d(price),
            realized: d(realized),
            fee: d(fee),
        };
        let good = Books {
            account_id: 7,
            cash: d("100"),
            postings: vec![
                (1, LedgerAccount::Cash, d("100")),
                (1, LedgerAccount::House, d("-100")),
                (2, LedgerAccount::Cash, d("-1")),
                (2, LedgerAccount::Fees, d("1.00")),
                (3, LedgerAccount::Cash, d("1")),
                (3, LedgerAccount::Pnl, d("-1")),
            ],
            empty: Vec::new(),
            fills: vec![
                fill("BTC", "2", "10", "0", "0.75"),
                fill("BTC", "-1", "11", "1", "0.25"),
                fill("ETH", "1", "5", "0", "0"),
                fill("ETH", "-1", "5", "0", "0"),
            ],
            positions: BTreeMap::from([("BTC".into(), (d("1"), d("10")))]),
        };
        assert_eq!(good.check(), []);
        let check = |books: Books, expected: &[&str]| {
            let found: Vec<String> = books.check().iter().map(ToString::to_string).collect();
            assert_eq!(found, expected);
        };
        let cash = Books { cash: d("98"), ..good.clone() };
        check(cash, &["account 7: cash is 98, its postings sum to 100"]);
        let mut unbalanced = good.clone();
        unbalanced.postings[5].2 = d("-2");
        check(
            unbalanced,
            &[
                "account 7: transaction 3 is off by -1",
                "account 7: results of its fills sum to 1, those of its postings to 2",
            ],
        );
        let mut together = Books { cash: d("98"), ..good.clone() };
        (together.postings[2].2, together.postings[3].2) = (d("-3"), d("3"));
        check(together, &["account 7: fees of its fills sum to 1.00, those of its postings to 3"]);
        let empty = Books { empty: vec![4], ..good.clone() };
        check(empty, &["account 7: transaction 4 has no postings"]);
        let held = Books { positions: BTreeMap::new(), ..good.clone() };
        check(held, &["account 7: BTC is 0 @ 0 in its positions, 1 @ 10 by its fills"]);
        let mut unfilled = good;
        unfilled.fills[0].size = d("1");
        check(unfilled, &["account 7: BTC is 1 @ 10 in its positions, 0 @ 0 by its fills"]);
    }
}
