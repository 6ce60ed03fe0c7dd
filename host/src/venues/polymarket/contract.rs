//! One market: a question with two outcomes, each of which is a token.

use crate::venues::market::{Market, Perpetual};
use crate::venues::random::Noise;

const DAY_MS: i64 = 86_400_000;
/// From the end of a market to its resolution.
const VERDICT_MS: i64 = 60_000;

/// A market of the catalogue.
#[derive(Debug, Clone)]
pub(crate) struct Contract {
    pub(super) id: i64,
    pub(super) event_id: i64,
    pub(super) question: String,
    pub(super) slug: String,
    pub(super) outcomes: [&'static str; 2],
    pub(super) tokens: [String; 2],
    pub(super) condition: String,
    /// The step between prices, in thousandths.
    pub(super) tick: i64,
    pub(super) starts_ms: i64,
    pub(super) ends_ms: i64,
    pub(super) neg_risk: bool,
    /// Dollars a day.
    pub(super) turnover: f64,
    pub(super) odds: Odds,
    pub(super) noise: Noise,
}

/// Where the odds of the first outcome come from.
#[derive(Debug, Clone)]
pub(super) enum Odds {
    /// They wander about a share.
    Wander(f64),
    /// They follow a perpetual: does it end above where it started?
    Follow(Perpetual),
}

/// How a market stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Listed, without a book as yet.
    Announced,
    /// Traded; this lasts a little longer than its end.
    Open,
    /// Over: the index of the outcome that won.
    Resolved(usize),
}

impl Contract {
    pub(super) fn standing(&self, now_ms: i64) -> Standing {
        match &self.odds {
            _ if now_ms < self.starts_ms => Standing::Announced,
            Odds::Follow(perpetual) if now_ms >= self.ends_ms + VERDICT_MS => {
                let up = perpetual.price(self.ends_ms) >= perpetual.price(self.opens_ms());
                Standing::Resolved(usize::from(!up))
            }
            Odds::Wander(share) if now_ms >= self.ends_ms + VERDICT_MS => {
                let won = self.noise.of("verdict").unit() < *share;
                Standing::Resolved(usize::from(!won))
            }
            _ => Standing::Open,
        }
    }

    pub(super) fn resolved_ms(&self) -> i64 {
        self.ends_ms + VERDICT_MS
    }

    /// When what is asked about begins: a book stands a while before.
    fn opens_ms(&self) -> i64 {
        self.ends_ms - super::catalogue::SLOT_MS
    }

    /// How likely the first outcome is, 0 to 1.
    pub(super) fn chance(&self, at_ms: i64) -> f64 {
        let chance = match &self.odds {
            Odds::Wander(share) => {
                let walk = self.noise.of("odds").walk(at_ms, 60_000, 14);
                share + 0.05 * walk
            }
            Odds::Follow(perpetual) => {
                let from = perpetual.price(self.opens_ms());
                let now = perpetual.price(at_ms.clamp(self.opens_ms(), self.ends_ms));
                let left = (self.ends_ms - at_ms).clamp(5_000, DAY_MS) as f64 / DAY_MS as f64;
                // How many times further than it may be expected to move it has moved.
                let x = (now / from - 1.0) / (0.02 * left.sqrt());
                0.5 + 0.5 * x / (1.0 + x.abs())
            }
        };
        chance.clamp(0.02, 0.98)
    }

    /// The index of a token of this market.
    pub(super) fn outcome(&self, token: &str) -> Option<usize> {
        self.tokens.iter().position(|known| known == token)
    }
}

/// A perpetual to follow.
pub(super) fn followed(market: &Market, name: &str) -> Perpetual {
    let listed = market.find(name).and_then(|coin| market.perpetuals().get(coin)).cloned();
    listed.unwrap_or_else(|| Perpetual::new(name, market.noise(), 1))
}
