//! What a stream can be asked for.

use serde_json::{Map, Value, json};

use crate::venues::market::{Interval, Market};

/// A subscription; two that are equal are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Subscription {
    AllMids,
    Trades(usize),
    /// A coin, its significant figures and mantissa, and whether few levels come fast.
    Book(usize, Option<u64>, Option<u64>, bool),
    Best(usize),
    Candle(usize, Interval),
    Context(usize),
}

/// Why a subscription is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The request cannot be read: an error frame says so.
    Unreadable,
    /// The coin is not known, or a parameter is out of bounds: the whole connection is closed,
    /// without a word.
    Fatal,
}

impl Subscription {
    pub(super) fn parse(market: &Market, wanted: &Value) -> Result<Self, Refusal> {
        let kind = wanted["type"].as_str().ok_or(Refusal::Unreadable)?;
        if kind == "allMids" {
            return Ok(Self::AllMids);
        }
        let coin = wanted["coin"].as_str().ok_or(Refusal::Unreadable)?;
        let coin = market.find(coin).ok_or(Refusal::Fatal);
        Ok(match kind {
            "trades" => Self::Trades(coin?),
            "bbo" => Self::Best(coin?),
            "activeAssetCtx" => Self::Context(coin?),
            "candle" => {
                let interval = wanted["interval"].as_str().and_then(Interval::parse);
                Self::Candle(coin?, interval.ok_or(Refusal::Unreadable)?)
            }
            "l2Book" => {
                let figures = number(&wanted["nSigFigs"])?;
                let mantissa = number(&wanted["mantissa"])?;
                let allowed = figures.is_none_or(|figures| (2..=5).contains(&figures))
                    && mantissa.is_none_or(|mantissa| [1, 2, 5].contains(&mantissa));
                if !allowed {
                    return Err(Refusal::Fatal);
                }
                Self::Book(coin?, figures, mantissa, wanted["fast"].as_bool().unwrap_or_default())
            }
            _ => return Err(Refusal::Unreadable),
        })
    }

    /// The subscription with every default filled in, as it is acknowledged.
    pub(super) fn document(self, market: &Market) -> Value {
        let name =
            |coin: usize| market.perpetuals().get(coin).map(|perpetual| perpetual.name.as_str());
        match self {
            Self::AllMids => json!({ "type": "allMids", "dex": null }),
            Self::Trades(coin) => json!({ "type": "trades", "coin": name(coin) }),
            Self::Best(coin) => json!({ "type": "bbo", "coin": name(coin) }),
            Self::Context(coin) => json!({ "type": "activeAssetCtx", "coin": name(coin) }),
            Self::Candle(coin, interval) => {
                json!({ "type": "candle", "coin": name(coin), "interval": interval.as_str() })
            }
            Self::Book(coin, figures, mantissa, fast) => {
                let mut book = Map::from_iter([
                    ("type".to_owned(), "l2Book".into()),
                    ("coin".to_owned(), name(coin).into()),
                    ("nSigFigs".to_owned(), figures.into()),
                    ("mantissa".to_owned(), mantissa.into()),
                ]);
                if fast {
                    book.insert("fast".to_owned(), true.into());
                }
                book.into()
            }
        }
    }
}

fn number(value: &Value) -> Result<Option<u64>, Refusal> {
    if value.is_null() { Ok(None) } else { value.as_u64().map(Some).ok_or(Refusal::Unreadable) }
}
