//! A figure that a source publishes and may revise.

/// One value of one feature of one subject, as in the value locked on a chain.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistic {
    /// What is measured, as in `chain_tvl_usd`.
    pub feature: &'static str,
    /// Of what, as in `Ethereum`.
    pub subject: String,
    /// Which time it is of, epoch milliseconds.
    pub at_ms: i64,
    /// The value.
    pub value: f64,
}
