//! A strategy graph as typed data, one to one with the JSON document.

use crate::market::Interval;

/// A strategy: nodes, actions and the limits that it sets itself. Obtained from
/// [`ValidGraph::graph`](super::ValidGraph::graph).
#[derive(Debug, Clone, PartialEq)]
pub struct StrategyGraph {
    /// A name for people.
    pub name: String,
    /// The symbols that it may trade.
    pub universe: Vec<String>,
    /// The bar length that it was made for. Periods count bars of whatever is evaluated.
    pub timeframe: Interval,
    /// Bars at the start of a history on which no action fires.
    pub warmup_bars: usize,
    /// Inputs, calculations and conditions, in the document's order.
    pub nodes: Vec<Node>,
    /// What conditions do, in the document's order.
    pub actions: Vec<Action>,
    /// The graph's own limits.
    pub risk: Risk,
}

/// One node.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its id, unique among nodes.
    pub id: String,
    /// What it does.
    pub kind: NodeKind,
    /// The ids of the nodes that it takes its operands from, in order.
    pub inputs: Vec<String>,
}

/// What a node does.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeKind {
    /// Reads a feature.
    Input(Input),
    /// A calculation with memory.
    Indicator(Indicator),
    /// A fixed number.
    Const(f64),
    /// A calculation on one bar.
    Math(Math),
    /// Two numbers become a condition.
    Compare(Comparison),
    /// Conditions become a condition.
    Logic(Logic),
}

/// A feature and how old it may be.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// What is read.
    pub feature: Feature,
    /// The age (ms) above which a datum counts as unknown; `None` leaves it to the source.
    pub max_age_ms: Option<i64>,
}

/// Something that can be read at the close of a bar. Changes, rates and drawdowns are fractions.
#[derive(Debug, Clone, PartialEq)]
pub enum Feature {
    /// A price of the bar (USD).
    Price(PriceField),
    /// The bar's volume (base currency).
    Volume,
    /// The venue's mark price (USD).
    Mark,
    /// The oracle price (USD).
    Oracle,
    /// The middle of the book (USD).
    Mid,
    /// Ask minus bid (USD).
    Spread,
    /// The hourly funding rate.
    Funding {
        /// How the rates of the window become one number.
        aggregate: Aggregate,
        /// The window (ms).
        window_ms: i64,
    },
    /// Open interest (base currency).
    OpenInterest,
    /// The perpetual's premium over the oracle.
    Premium,
    /// Total value locked on a chain (USD).
    Tvl {
        /// The chain's name.
        chain: String,
    },
    /// Its change over a window.
    TvlChange {
        /// The chain's name.
        chain: String,
        /// The window (ms).
        window_ms: i64,
    },
    /// The change of the supply of stablecoins over a window.
    StablecoinSupplyChange {
        /// The window (ms).
        window_ms: i64,
    },
    /// The change of the volume of decentralised exchanges on a chain over a window.
    DexVolumeChange {
        /// The chain's name.
        chain: String,
        /// The window (ms).
        window_ms: i64,
    },
    /// The yearly yield of a pool.
    PoolApy {
        /// The pool's id.
        pool: String,
    },
    /// The odds of a Polymarket outcome, 0 to 1.
    PmOdds {
        /// The market's condition id.
        condition_id: String,
        /// The outcome's name.
        outcome: String,
    },
    /// The position held: 1 long, −1 short, 0 none.
    PositionSide,
    /// The position's unrealised profit as a fraction of its entry notional; 0 without one.
    PositionPnlPct,
    /// Equity over its highest value so far, minus 1: never above 0.
    EquityDrawdown,
}

impl Feature {
    /// The feature's name in a document, such as `tvl_change`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Price(_) => "price",
            Self::Volume => "volume",
            Self::Mark => "mark",
            Self::Oracle => "oracle",
            Self::Mid => "mid",
            Self::Spread => "spread",
            Self::Funding { .. } => "funding",
            Self::OpenInterest => "open_interest",
            Self::Premium => "premium",
            Self::Tvl { .. } => "tvl",
            Self::TvlChange { .. } => "tvl_change",
            Self::StablecoinSupplyChange { .. } => "stablecoin_supply_change",
            Self::DexVolumeChange { .. } => "dex_volume_change",
            Self::PoolApy { .. } => "pool_apy",
            Self::PmOdds { .. } => "pm_odds",
            Self::PositionSide => "position_side",
            Self::PositionPnlPct => "position_pnl_pct",
            Self::EquityDrawdown => "equity_drawdown",
        }
    }
}

/// Which price of a bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PriceField {
    /// The first.
    Open,
    /// The highest.
    High,
    /// The lowest.
    Low,
    /// The last.
    Close,
}

/// How several values become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    /// The arithmetic mean.
    Mean,
    /// The sum.
    Sum,
    /// The newest.
    Last,
    /// The smallest.
    Min,
    /// The largest.
    Max,
}

/// A calculation with memory. Periods are bars, 1 to 1000. Each takes one number, `Atr` three
/// (high, low, close); each is unknown until its window is full, and starts again after a bar on
/// which its input was unknown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Indicator {
    /// Simple moving average.
    Sma(usize),
    /// Exponential moving average, α = 2/(n+1), seeded with the mean of the first n.
    Ema(usize),
    /// Wilder's relative strength index, 0 to 100; 50 while nothing has moved.
    Rsi(usize),
    /// Wilder's average true range.
    Atr(usize),
    /// Rate of change over n bars, in percent.
    Roc(usize),
    /// Moving average convergence divergence, seeded as TA-Lib does; known when its signal is.
    Macd {
        /// Period of the fast average.
        fast: usize,
        /// Period of the slow average, greater than `fast`.
        slow: usize,
        /// Period of the signal line.
        signal: usize,
        /// Which line.
        line: MacdLine,
    },
    /// Where the value stands between its Bollinger bands: 0 lower, 1 upper.
    BbPos {
        /// Period of mean and deviation.
        period: usize,
        /// Population standard deviations from the middle to a band.
        width: f64,
    },
    /// Population standard deviations from the mean.
    ZScore(usize),
    /// The highest of n bars.
    Highest(usize),
    /// The lowest of n bars.
    Lowest(usize),
}

/// A line of the MACD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacdLine {
    /// Fast average minus slow average.
    Macd,
    /// The exponential average of that.
    Signal,
    /// The first minus the second.
    Histogram,
}

/// A calculation on one bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Math {
    /// The sum of two or more.
    Add,
    /// The first minus the second.
    Sub,
    /// The product of two or more.
    Mul,
    /// The first by the second; by zero is unknown.
    Div,
    /// The absolute value of one.
    Abs,
    /// The smallest of two or more.
    Min,
    /// The largest of two or more.
    Max,
}

/// Numbers become a condition.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Comparison {
    /// First above second.
    Gt,
    /// First not below second.
    Gte,
    /// First below second.
    Lt,
    /// First not above second.
    Lte,
    /// `low ≤ x ≤ high`.
    Between {
        /// Inclusive.
        low: f64,
        /// Inclusive.
        high: f64,
    },
    /// The first crosses the second.
    Cross(Crossing),
}

/// The direction of a crossing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crossing {
    /// `a[t−1] ≤ b[t−1] ∧ a[t] > b[t]`.
    Up,
    /// `a[t−1] ≥ b[t−1] ∧ a[t] < b[t]`.
    Down,
}

/// Conditions become a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logic {
    /// All of two or more.
    And,
    /// Any of two or more.
    Or,
    /// Not the one.
    Not,
    /// Exactly one of the two.
    Xor,
    /// The one has been true on this bar and the bars before it, so many in all.
    HoldFor(usize),
}

/// What a condition does.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// Its id, unique among actions.
    pub id: String,
    /// The id of the condition that fires it.
    pub when: String,
    /// What it does.
    pub kind: ActionKind,
    /// Higher wins; 0 when the document is silent.
    pub priority: i64,
    /// After it fired, it cannot fire again before so much time (ms) has passed.
    pub cooldown_ms: i64,
}

/// What an action does.
#[derive(Debug, Clone, PartialEq)]
pub enum ActionKind {
    /// Open a long position; a short one is closed first.
    OpenLong(Entry),
    /// Open a short position; a long one is closed first.
    OpenShort(Entry),
    /// Close the position.
    Close,
}

/// How a position is opened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry {
    /// How large it is.
    pub sizing: Sizing,
    /// Notional by margin, at least 1. It does not multiply the size: it sets the margin that the
    /// position locks, and therefore only caps the notional at `leverage · equity`.
    pub leverage: f64,
    /// Loss at which it is closed, as a fraction of the entry price.
    pub stop_loss: Option<f64>,
    /// Profit at which it is closed, as a fraction of the entry price.
    pub take_profit: Option<f64>,
}

/// The size of a position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sizing {
    /// Notional = value · equity.
    PctEquity(f64),
    /// Notional = value (USD).
    FixedNotional(f64),
    /// Notional = value · equity ÷ stop loss: the loss at the stop is `value` of equity.
    RiskPct(f64),
    /// Notional = target ÷ yearly volatility · equity.
    VolTarget {
        /// The yearly volatility aimed at, as a fraction.
        target: f64,
        /// Bar-to-bar returns that the volatility is measured over.
        lookback: usize,
    },
    /// The same number of units (base currency) every time.
    Units(f64),
}

/// Limits that a graph sets itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Risk {
    /// No action may ask for more leverage.
    pub max_leverage: f64,
    /// Largest notional of one position, as a fraction of equity.
    pub max_position_pct: f64,
    /// Positions open at one time, over all symbols: kept by the account that trades several.
    pub max_open_positions: usize,
    /// Loss of a day, as a fraction of equity, after which nothing is opened: kept by the account.
    pub max_daily_loss_pct: Option<f64>,
}

impl Default for Risk {
    /// No leverage, one position of at most the whole equity, no daily limit.
    fn default() -> Self {
        Self {
            max_leverage: 1.0,
            max_position_pct: 1.0,
            max_open_positions: 1,
            max_daily_loss_pct: None,
        }
    }
}
