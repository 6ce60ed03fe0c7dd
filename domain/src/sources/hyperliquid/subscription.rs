//! What a connection asks for, and how its acknowledgement is recognised: the venue echoes it with
//! fields of its own.

use serde_json::{Value, json};

/// One subscription.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subscription {
    /// The mids of all coins.
    AllMids,
    /// The trades of a coin.
    Trades(String),
    /// The best bid and ask of a coin.
    Bbo(String),
    /// The one-minute bars of a coin.
    Candle(String),
    /// Mark, oracle and funding of a coin.
    Context(String),
}

impl Subscription {
    /// All that is asked of one coin.
    #[must_use]
    pub fn of_coin(coin: &str) -> [Self; 4] {
        [
            Self::Context(coin.to_owned()),
            Self::Bbo(coin.to_owned()),
            Self::Candle(coin.to_owned()),
            Self::Trades(coin.to_owned()),
        ]
    }

    /// The coin, where it is of one.
    #[must_use]
    pub fn coin(&self) -> Option<&str> {
        match self {
            Self::AllMids => None,
            Self::Trades(coin) | Self::Bbo(coin) | Self::Candle(coin) | Self::Context(coin) => {
                Some(coin)
            }
        }
    }

    /// The message that asks for it.
    #[must_use]
    pub fn request(&self) -> String {
        let subscription = match self {
            Self::AllMids => json!({"type": "allMids"}),
            Self::Trades(coin) => json!({"type": "trades", "coin": coin}),
            Self::Bbo(coin) => json!({"type": "bbo", "coin": coin}),
            Self::Candle(coin) => json!({"type": "candle", "coin": coin, "interval": "1m"}),
            Self::Context(coin) => json!({"type": "activeAssetCtx", "coin": coin}),
        };
        json!({"method": "subscribe", "subscription": subscription}).to_string()
    }

    /// Reads what an acknowledgement is of; `None` for what is not asked for here.
    #[must_use]
    pub fn acknowledged(data: &Value) -> Option<Self> {
        if data.get("method")?.as_str()? != "subscribe" {
            return None;
        }
        let echoed = data.get("subscription")?;
        let coin = || Some(echoed.get("coin")?.as_str()?.to_owned());
        match echoed.get("type")?.as_str()? {
            "allMids" => Some(Self::AllMids),
            "trades" => Some(Self::Trades(coin()?)),
            "bbo" => Some(Self::Bbo(coin()?)),
            "candle" if echoed.get("interval")?.as_str()? == "1m" => Some(Self::Candle(coin()?)),
            "activeAssetCtx" => Some(Self::Context(coin()?)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_is_recognised_whatever_the_venue_adds() {
        let mut all = vec![Subscription::AllMids];
        all.extend(Subscription::of_coin("kPEPE"));
        for subscription in all {
            let mut data: Value = serde_json::from_str(&subscription.request()).unwrap();
            data["subscription"]["dex"] = json!("");
            data["subscription"]["nSigFigs"] = json!(null);
            assert_eq!(Subscription::acknowledged(&data), Some(subscription.clone()), "{data}");
            data["method"] = json!("unsubscribe");
            assert_eq!(Subscription::acknowledged(&data), None);
        }
        for strange in [json!(null), json!({"method": "subscribe"}), json!({"method": 1})] {
            assert_eq!(Subscription::acknowledged(&strange), None);
        }
    }
}
