//! Faults at random, the same ones for the same seed and the same order of requests.

use std::time::Duration;

use serde_json::Value;

use super::{Fault, Step};
use crate::venues::random::Noise;

/// How often things go wrong.
#[derive(Debug, Clone, Copy)]
pub struct Chaos {
    /// Of the random numbers.
    pub seed: u64,
    /// The share of answers that are spoiled, 0 to 1.
    pub answers: f64,
    /// Mishaps of a stream in a minute, on average.
    pub streams_per_minute: f64,
}

impl Default for Chaos {
    /// One answer in eight, and two mishaps of each stream in three minutes.
    fn default() -> Self {
        Self { seed: 1, answers: 0.125, streams_per_minute: 0.66 }
    }
}

/// How often a stream that is open asks for a step, in a minute.
const ASKED_PER_MINUTE: f64 = 600.0;

impl Chaos {
    pub(super) fn fault(&self, count: i64) -> Option<Fault> {
        let noise = Noise::new(self.seed).of("answer").at(count);
        if noise.at(0).unit() >= self.answers {
            return None;
        }
        Some(match noise.at(1).below(11) {
            0 => Fault::limited(Some(1)),
            1 => Fault::limited(None),
            2 => Fault::answer(429, "<html><body>Too many requests</body></html>")
                .header("content-type", "text/html"),
            3 => Fault::answer(200, r#"{"error":"Too Many Requests"}"#)
                .header("content-type", "application/json"),
            4 | 5 => Fault::outage(),
            6 => Fault::answer(503, ""),
            7 => Fault::slow(Duration::from_millis(500 + noise.at(2).below(2_500))),
            8 => Fault::truncated(1 + usize::try_from(noise.at(2).below(400)).unwrap_or_default()),
            9 => Fault::stalled(1 + usize::try_from(noise.at(2).below(400)).unwrap_or_default()),
            _ => Fault::edited(move |document| garble(document, noise)),
        })
    }

    pub(super) fn step(&self, count: i64) -> Option<Step> {
        let noise = Noise::new(self.seed).of("step").at(count);
        if noise.at(0).unit() >= self.streams_per_minute / ASKED_PER_MINUTE {
            return None;
        }
        Some(match noise.at(1).below(9) {
            0 | 1 => Step::Drop,
            2 => Step::Close(1011),
            3 => Step::Freeze,
            4 => Step::Mute,
            5 => Step::Duplicate(true),
            6 => Step::Swap,
            7 => Step::Text("Websocket connection established.".to_owned()),
            _ => Step::Refuse,
        })
    }
}

/// Spoils one figure of a document that is a text.
fn garble(document: &mut Value, noise: Noise) {
    let mut figures = 0;
    each_figure(document, &mut |_| figures += 1);
    let chosen = noise.at(3).below(figures);
    let mut index = 0;
    each_figure(document, &mut |figure| {
        if index == chosen {
            let wrong = ["NaN", "", "Infinity", "-1.0", "null"];
            let wrong = wrong.get(noise.at(4).bits() as usize % wrong.len());
            *figure = wrong.copied().map(Value::from).unwrap_or_default();
        }
        index += 1;
    });
}

fn each_figure(document: &mut Value, visit: &mut impl FnMut(&mut Value)) {
    match document {
        Value::String(text) if text.parse::<f64>().is_ok() => visit(document),
        Value::Array(parts) => parts.iter_mut().for_each(|part| each_figure(part, visit)),
        Value::Object(parts) => parts.values_mut().for_each(|part| each_figure(part, visit)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn chance_spoils_about_as_many_as_asked() {
        let chaos = Chaos::default();
        let faults = (0..8_000).filter(|count| chaos.fault(*count).is_some()).count();
        assert!((800..1_200).contains(&faults), "{faults} of 8,000");
        let steps = (0..60_000).filter(|count| chaos.step(*count).is_some()).count();
        assert!((33..100).contains(&steps), "{steps} in 100 minutes");
    }

    #[test]
    fn one_figure_is_garbled() {
        let whole = json!([{ "px": "1.5", "coin": "BTC", "n": 3 }, { "px": "2.5" }]);
        for seed in 0..20 {
            let mut garbled = whole.clone();
            garble(&mut garbled, Noise::new(seed));
            let differing =
                (garbled[0]["px"] != whole[0]["px"], garbled[1]["px"] != whole[1]["px"]);
            assert!(differing == (true, false) || differing == (false, true), "{garbled}");
            assert_eq!(garbled[0]["coin"], "BTC");
        }
    }
}
