//! Randomness without state: a figure is a function of the seed, a name and a time, so that every
//! answer agrees with every other one, whoever asks and whenever.
//!
//! Only `+`, `-`, `*`, `/` and square roots are used: the same seed gives the same market on every
//! machine.

/// A source of numbers; the same path from the seed leads to the same number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Noise(u64);

const DAY_MS: f64 = 86_400_000.0;

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Self(scramble(seed))
    }

    /// Noise of its own for something with a name.
    pub(crate) fn of(self, name: &str) -> Self {
        let named = name.bytes().fold(self.0, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self(scramble(named))
    }

    /// Noise of its own for each index.
    pub(crate) fn at(self, index: i64) -> Self {
        Self(scramble(self.0 ^ index.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// Uniform in 0..1.
    pub(crate) fn unit(self) -> f64 {
        let bits = (self.0 >> 11) as f64;
        bits / 9_007_199_254_740_992.0
    }

    /// Uniform in −1..1.
    fn sign(self) -> f64 {
        self.unit() * 2.0 - 1.0
    }

    /// Uniform in 0..`bound`, 0 for a bound of 0.
    pub(crate) fn below(self, bound: u64) -> u64 {
        self.0 % bound.max(1)
    }

    /// A curve in −1..1 that changes its mind once a period.
    pub(crate) fn smooth(self, at_ms: i64, period_ms: i64) -> f64 {
        let cell = at_ms.div_euclid(period_ms);
        let x = at_ms.rem_euclid(period_ms) as f64 / period_ms as f64;
        let (from, to) = (self.at(cell).sign(), self.at(cell + 1).sign());
        from + (to - from) * x * x * (3.0 - 2.0 * x)
    }

    /// Something like a random walk that comes home: curves of twice the period each, from
    /// `shortest_ms` on, as strong as the root of their period. It moves by about one in a day.
    pub(crate) fn walk(self, at_ms: i64, shortest_ms: i64, curves: u32) -> f64 {
        let mut period_ms = shortest_ms;
        let mut sum = 0.0;
        for curve in 0..i64::from(curves) {
            let own = self.at(curve);
            let strength = (period_ms as f64 / DAY_MS).sqrt();
            // Each curve has a phase of its own: else all of them would turn at the same moments.
            let phase_ms = (own.bits() >> 2) as i64 % period_ms;
            sum += strength * own.smooth(at_ms + phase_ms, period_ms);
            period_ms *= 2;
        }
        sum
    }

    /// As many hexadecimal digits.
    pub(crate) fn hex(self, digits: usize) -> String {
        let mut text = String::with_capacity(digits + 16);
        for part in 0.. {
            if text.len() >= digits {
                break;
            }
            text.push_str(&format!("{:016x}", self.at(part).bits()));
        }
        text.truncate(digits);
        text
    }

    /// As many decimal digits, the first of them not 0.
    pub(crate) fn digits(self, digits: usize) -> String {
        (0..digits)
            .map(|place| {
                let random = self.at(i64::try_from(place).unwrap_or_default());
                let digit = if place == 0 { 1 + random.below(9) } else { random.below(10) };
                char::from(b'0' + u8::try_from(digit).unwrap_or_default())
            })
            .collect()
    }
}

/// SplitMix64's finaliser (Steele, Lea, Flood 2014).
fn scramble(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_one_number() {
        let noise = Noise::new(7);
        assert_eq!(noise.of("BTC").at(3).bits(), Noise::new(7).of("BTC").at(3).bits());
        assert_ne!(noise.of("BTC").at(3).bits(), noise.of("ETH").at(3).bits());
        assert_ne!(noise.of("BTC").at(3).bits(), Noise::new(8).of("BTC").at(3).bits());
        assert_eq!(noise.hex(40).len(), 40);
        assert_eq!(noise.digits(77).len(), 77);
    }

    #[test]
    fn a_walk_is_continuous_and_moves() {
        let walk = |at_ms| Noise::new(1).walk(at_ms, 120_000, 16);
        let (mut longest, mut low, mut high) = (0.0_f64, f64::MAX, f64::MIN);
        for minute in 0..10_000 {
            let (now, next) = (walk(minute * 60_000), walk((minute + 1) * 60_000));
            longest = longest.max((next - now).abs());
            low = low.min(now);
            high = high.max(now);
        }
        assert!(longest < 0.3, "a minute moves by {longest}");
        assert!(high - low > 0.5, "a week moves by {}", high - low);
    }
}
