//! Every event and its markets: some that last for months, and one for each quarter of an hour and
//! coin, which opens, ends and is resolved while one watches.

use std::sync::{Arc, Mutex, PoisonError};

use super::contract::{Contract, Odds, followed};
use crate::venues::date;
use crate::venues::market::{Market, OPENED_MS};
use crate::venues::random::Noise;

/// How long a market about a coin runs.
pub(super) const SLOT_MS: i64 = 900_000;
/// Of those that are over, as many are remembered: a day.
const REMEMBERED: i64 = 96;
/// Coins with markets of a quarter of an hour.
const COINS: [(&str, &str, &str); 2] = [("BTC", "Bitcoin", "btc"), ("ETH", "Ethereum", "eth")];

/// An event: its title and its markets.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(super) id: i64,
    pub(super) title: String,
    pub(super) slug: String,
    pub(super) tag: &'static str,
    pub(super) markets: Vec<Arc<Contract>>,
}

/// Days from the opening of the exchange to the end, tag, title, thousands of dollars a day, and
/// for each market its question and the share of its first outcome.
type Facts = (i64, &'static str, &'static str, f64, &'static [(&'static str, f64)]);

const LASTING: [Facts; 9] = [
    (
        1_430,
        "Politics",
        "Democratic Presidential Nominee 2028",
        410.0,
        &[
            ("Will Gavin Newsom win the 2028 Democratic presidential nomination?", 0.23),
            (
                "Will Alexandria Ocasio-Cortez win the 2028 Democratic presidential nomination?",
                0.09,
            ),
            ("Will Pete Buttigieg win the 2028 Democratic presidential nomination?", 0.07),
        ],
    ),
    (
        760,
        "Economy",
        "Fed decision in January",
        920.0,
        &[
            ("Will the Fed cut rates by 25 bps in January?", 0.31),
            ("Will the Fed leave rates unchanged in January?", 0.64),
            ("Will the Fed raise rates in January?", 0.03),
        ],
    ),
    (
        790,
        "Crypto",
        "What price will Bitcoin hit before March?",
        350.0,
        &[
            ("Will Bitcoin reach $100,000 before March?", 0.27),
            ("Will Bitcoin dip to $70,000 before March?", 0.36),
        ],
    ),
    (
        1_095,
        "Crypto",
        "Ethereum all-time high in 2027?",
        45.0,
        &[("Will Ethereum reach a new all-time high in 2027?", 0.34)],
    ),
    (
        912,
        "Sports",
        "Champions League Winner",
        600.0,
        &[
            ("Will Arsenal win the Champions League?", 0.21),
            ("Will Bayern Munich win the Champions League?", 0.17),
            ("Will Real Madrid win the Champions League?", 0.12),
        ],
    ),
    (
        820,
        "Culture",
        "Oscars: Best Picture",
        70.0,
        &[("Will the favourite win Best Picture?", 0.58)],
    ),
    (
        1_000,
        "Science",
        "Hottest year on record?",
        22.0,
        &[("Will 2027 be the hottest year on record?", 0.41)],
    ),
    (
        1_095,
        "Tech",
        "Largest company at the end of 2027?",
        130.0,
        &[
            ("Will NVIDIA be the largest company at the end of 2027?", 0.62),
            ("Will Alphabet be the largest company at the end of 2027?", 0.22),
        ],
    ),
    (
        900,
        "World",
        "Ceasefire this spring?",
        280.0,
        &[("Will a ceasefire be announced this spring?", 0.18)],
    ),
];

/// The catalogue, made anew for each quarter of an hour.
#[derive(Debug)]
pub(crate) struct Catalogue {
    market: Arc<Market>,
    made: Mutex<(i64, Arc<Vec<Event>>)>,
}

impl Catalogue {
    pub(crate) fn new(market: Arc<Market>) -> Self {
        Self { market, made: Mutex::new((i64::MIN, Arc::default())) }
    }

    fn noise(&self) -> Noise {
        self.market.noise().of("polymarket")
    }

    /// Every event that is known at a time.
    pub(super) fn events(&self, now_ms: i64) -> Arc<Vec<Event>> {
        let slot = now_ms.div_euclid(SLOT_MS);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.0 != slot {
            let lasting = (0_i64..).zip(&LASTING).map(|(index, facts)| self.lasting(index, facts));
            let slots = slot - REMEMBERED..=slot + 2;
            let quarters = slots.flat_map(|slot| {
                (0_i64..).zip(COINS).map(move |(index, coin)| (slot, index, coin))
            });
            let quarters = quarters.map(|(slot, index, coin)| self.quarter(slot, index, coin));
            *made = (slot, Arc::new(lasting.chain(quarters).collect()));
        }
        Arc::clone(&made.1)
    }

    /// A market that has a token, and which of its outcomes that is.
    pub(super) fn by_token(&self, token: &str, now_ms: i64) -> Option<(Arc<Contract>, usize)> {
        let events = self.events(now_ms);
        let mut contracts = events.iter().flat_map(|event| &event.markets);
        contracts.find_map(|contract| Some((Arc::clone(contract), contract.outcome(token)?)))
    }

    /// The tokens of the markets that are open.
    #[cfg(test)]
    pub(crate) fn open_tokens(&self, now_ms: i64) -> Vec<String> {
        let events = self.events(now_ms);
        let markets = events.iter().flat_map(|event| &event.markets);
        let open =
            markets.filter(|market| market.standing(now_ms) == super::contract::Standing::Open);
        open.flat_map(|market| market.tokens.clone()).collect()
    }

    fn lasting(&self, index: i64, (days, tag, title, thousands, questions): &Facts) -> Event {
        let id = 30_000 + index;
        let slug = slug(title);
        let markets = (0_i64..)
            .zip(*questions)
            .map(|(place, (question, share))| {
                let noise = self.noise().of(question);
                Arc::new(Contract {
                    id: 550_000 + index * 100 + place,
                    event_id: id,
                    question: (*question).to_owned(),
                    slug: self::slug(question),
                    outcomes: ["Yes", "No"],
                    tokens: [noise.at(0).digits(77), noise.at(1).digits(77)],
                    condition: format!("0x{}", noise.at(2).hex(64)),
                    tick: if *share < 0.1 { 1 } else { 10 },
                    starts_ms: OPENED_MS,
                    ends_ms: OPENED_MS + days * 86_400_000,
                    neg_risk: questions.len() > 2,
                    turnover: thousands * 1_000.0 / questions.len() as f64,
                    odds: Odds::Wander(*share),
                    noise,
                })
            })
            .collect();
        Event { id, title: (*title).to_owned(), slug, tag, markets }
    }

    fn quarter(&self, slot: i64, index: i64, (coin, name, short): (&str, &str, &str)) -> Event {
        let starts_ms = slot * SLOT_MS;
        let ends_ms = starts_ms + SLOT_MS;
        let noise = self.noise().of(coin).at(slot);
        let hours = date::rfc3339(starts_ms);
        let question = format!("{name} Up or Down - {} UTC", hours.get(..16).unwrap_or(&hours));
        let slug = format!("{short}-updown-15m-{}", starts_ms / 1_000);
        let number = slot * 2 + index;
        let contract = Contract {
            id: 10_000_000 + number,
            event_id: 1_000_000 + number,
            question: question.clone(),
            slug: slug.clone(),
            outcomes: ["Up", "Down"],
            tokens: [noise.at(0).digits(77), noise.at(1).digits(77)],
            condition: format!("0x{}", noise.at(2).hex(64)),
            tick: 10,
            // The book of the next quarter stands already.
            starts_ms: starts_ms - SLOT_MS,
            ends_ms,
            neg_risk: false,
            turnover: 240_000.0,
            odds: Odds::Follow(followed(&self.market, coin)),
            noise,
        };
        let markets = vec![Arc::new(contract)];
        Event { id: 1_000_000 + number, title: question, slug, tag: "Crypto", markets }
    }
}

fn slug(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { ' ' };
    let words: String = text.chars().map(plain).collect();
    words.split_whitespace().collect::<Vec<_>>().join("-")
}
