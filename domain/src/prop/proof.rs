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
    /// Fills in order: symbol, signed size, price (USD), what closing earned (USD).
    pub fills: Vec<(String, Decimal, Decimal, Decimal)>,
    /// Positions by symbol: signed size and average price (USD).
    pub positions: BTreeMap<String, (Decimal, Decimal)>,
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
        let of_cash = self.postings.iter().filter(|posting| posting.1 == LedgerAccount::Cash);
        let posted: Decimal = of_cash.map(|posting| posting.2).sum();
        if posted != self.cash {
            found.push(Discrepancy::Cash { account_id, cash: self.cash, posted });
        }
        let mut transactions: BTreeMap<i64, Decimal> = BTreeMap::new();
        for (transaction, _, amount) in &self.postings {
            *transactions.entry(*transaction).or_default() += amount;
        }
        for (transaction_id, imbalance) in transactions {
            if !imbalance.is_zero() {
                found.push(Discrepancy::Unbalanced { account_id, transaction_id, imbalance });
            }
        }
        let mut rebuilt: BTreeMap<&str, (Decimal, Decimal)> = BTreeMap::new();
        for (symbol, size, price, _) in &self.fills {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_hold_or_say_what_does_not() {
        let d = |text: &str| text.parse::<Decimal>().unwrap();
        let good = Books {
            account_id: 7,
            cash: d("99"),
            postings: vec![
                (1, LedgerAccount::Cash, d("100")),
                (1, LedgerAccount::House, d("-100")),
                (2, LedgerAccount::Cash, d("-1")),
                (2, LedgerAccount::Fees, d("1.00")),
            ],
            fills: vec![
                ("BTC".into(), d("2"), d("10"), d("0")),
                ("BTC".into(), d("-1"), d("11"), d("1")),
                ("ETH".into(), d("1"), d("5"), d("0")),
                ("ETH".into(), d("-1"), d("5"), d("0")),
            ],
            positions: BTreeMap::from([("BTC".into(), (d("1"), d("10")))]),
        };
        assert_eq!(good.check(), []);
        let check = |books: Books, expected: &[&str]| {
            let found: Vec<String> = books.check().iter().map(ToString::to_string).collect();
            assert_eq!(found, expected);
        };
        let cash = Books { cash: d("98"), ..good.clone() };
        check(cash, &["account 7: cash is 98, its postings sum to 99"]);
        let mut unbalanced = good.clone();
        unbalanced.postings[3].2 = d("2");
        check(unbalanced, &["account 7: transaction 2 is off by 1"]);
        let held = Books { positions: BTreeMap::new(), ..good.clone() };
        check(held, &["account 7: BTC is 0 @ 0 in its positions, 1 @ 10 by its fills"]);
        let unfilled = Books { fills: Vec::new(), ..good };
        check(unfilled, &["account 7: BTC is 1 @ 10 in its positions, 0 @ 0 by its fills"]);
    }
}
