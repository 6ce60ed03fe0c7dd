//! Double entry: each transaction moves money between two accounts of the ledger, once.

use rust_decimal::Decimal;

words! {
    /// An account of the ledger.
    LedgerAccount {
        /// What the prop account has.
        Cash = "cash",
        /// Who lends to it, and takes losses beyond nothing.
        House = "house",
        /// Fees of fills.
        Fees = "fees",
        /// The other side of funding.
        Funding = "funding",
        /// The other side of trades.
        Pnl = "pnl",
    }
}

words! {
    /// Why money moves.
    TransactionKind {
        /// The account begins.
        Deposit = "deposit",
        /// A fill costs.
        FillFee = "fill_fee",
        /// A fill closes.
        RealizedPnl = "realized_pnl",
        /// An hour of funding.
        Funding = "funding",
        /// A liquidation that left less than nothing: the house takes the rest.
        Liquidation = "liquidation",
        /// A correction.
        Adjustment = "adjustment",
        /// The account begins anew.
        Reset = "reset",
    }
}

/// A movement of money. Its postings sum to zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Why.
    pub kind: TransactionKind,
    /// Unique within the prop account: the same movement is booked once.
    pub idempotency_key: String,
    /// When it became due, epoch milliseconds: it may be booked later.
    pub occurred_at_ms: i64,
    /// What it refers to, for people.
    pub reference: Option<String>,
    /// Who gets how much.
    pub postings: Vec<Posting>,
}

/// A line of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posting {
    /// The account of the ledger.
    pub account: LedgerAccount,
    /// What it gets (USD).
    pub amount: Decimal,
}

impl Transaction {
    /// Gives `amount` to cash and takes it from the account that goes with the kind.
    #[must_use]
    pub fn new(
        kind: TransactionKind,
        idempotency_key: String,
        occurred_at_ms: i64,
        amount: Decimal,
    ) -> Self {
        let other = match kind {
            TransactionKind::FillFee => LedgerAccount::Fees,
            TransactionKind::RealizedPnl => LedgerAccount::Pnl,
            TransactionKind::Funding => LedgerAccount::Funding,
            TransactionKind::Deposit
            | TransactionKind::Liquidation
            | TransactionKind::Adjustment
            | TransactionKind::Reset => LedgerAccount::House,
        };
        let postings = vec![
            Posting { account: LedgerAccount::Cash, amount },
            Posting { account: other, amount: -amount },
        ];
        Self { kind, idempotency_key, occurred_at_ms, reference: None, postings }
    }

    /// What cash gets of it (USD).
    #[must_use]
    pub fn cash(&self) -> Decimal {
        let of_cash = |posting: &&Posting| posting.account == LedgerAccount::Cash;
        self.postings.iter().filter(of_cash).map(|posting| posting.amount).sum()
    }

    /// What is left over: zero, or it is no transaction.
    #[must_use]
    pub fn imbalance(&self) -> Decimal {
        self.postings.iter().map(|posting| posting.amount).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_balanced_and_names_its_other_side() {
        for kind in TransactionKind::ALL {
            let amount = Decimal::new(-225, 2);
            let transaction = Transaction::new(*kind, "k".into(), 7, amount);
            assert_eq!(transaction.imbalance(), Decimal::ZERO);
            assert_eq!(transaction.cash(), amount);
            assert_ne!(transaction.postings[1].account, LedgerAccount::Cash);
            assert_eq!(TransactionKind::of_word(kind.as_str()), Some(*kind));
        }
        assert_eq!(LedgerAccount::of_word("bank"), None);
    }
}
