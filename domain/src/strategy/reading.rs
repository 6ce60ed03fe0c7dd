//! Values that may be unknown, and Kleene's three-valued logic over them.

/// A value of one bar, or the reason why there is none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reading<T> {
    /// The value.
    Known(T),
    /// There is no value, for this reason.
    Unknown(Unknown),
}

/// Why a value is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unknown {
    /// Fewer bars have been seen than the indicator needs.
    WarmUp,
    /// The input has no history here, as for most features in a back-test.
    NoHistory,
    /// The newest datum is older than the input's `max_age`.
    Stale,
    /// A division by zero, or an indicator whose window has no spread.
    DivisionByZero,
    /// The result is too large for a number.
    Overflow,
}

impl<T: Copy> Reading<T> {
    /// The value, if it is known.
    pub fn known(self) -> Option<T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }

    /// Applies `function` to a known value.
    pub fn map<U>(self, function: impl FnOnce(T) -> U) -> Reading<U> {
        match self {
            Self::Known(value) => Reading::Known(function(value)),
            Self::Unknown(reason) => Reading::Unknown(reason),
        }
    }

    /// Both values, or the first reason why one is missing.
    pub fn zip<U: Copy>(self, other: Reading<U>) -> Reading<(T, U)> {
        match (self, other) {
            (Self::Known(left), Reading::Known(right)) => Reading::Known((left, right)),
            (Self::Unknown(reason), _) | (_, Reading::Unknown(reason)) => Reading::Unknown(reason),
        }
    }
}

impl Reading<f64> {
    /// A finite number is known; NaN and infinity are [`Unknown::Overflow`], so that every known
    /// number is finite.
    #[must_use]
    pub fn number(value: f64) -> Self {
        if value.is_finite() { Self::Known(value) } else { Self::Unknown(Unknown::Overflow) }
    }
}

/// Kleene's strong logic of indeterminacy: unknown unless the known operands decide.
impl Reading<bool> {
    /// `false ∧ ? = false`, `true ∧ ? = ?`.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Known(false), _) | (_, Self::Known(false)) => Self::Known(false),
            (Self::Known(true), rest) => rest,
            (unknown, _) => unknown,
        }
    }

    /// `true ∨ ? = true`, `false ∨ ? = ?`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        self.negate().and(other.negate()).negate()
    }

    /// `? ⊻ x = ?`.
    #[must_use]
    pub fn xor(self, other: Self) -> Self {
        self.zip(other).map(|(left, right)| left != right)
    }

    /// `¬? = ?`.
    #[must_use]
    pub fn negate(self) -> Self {
        self.map(|value| !value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Reading<bool> = Reading::Known(true);
    const F: Reading<bool> = Reading::Known(false);
    const U: Reading<bool> = Reading::Unknown(Unknown::WarmUp);

    /// Kleene, "Introduction to Metamathematics" (1952), §64, strong tables.
    #[test]
    fn truth_tables_are_those_of_kleene() {
        for (left, right, and, or, xor) in [
            (T, T, T, T, F),
            (T, F, F, T, T),
            (T, U, U, T, U),
            (F, T, F, T, T),
            (F, F, F, F, F),
            (F, U, F, U, U),
            (U, T, U, T, U),
            (U, F, F, U, U),
            (U, U, U, U, U),
        ] {
            assert_eq!(left.and(right), and, "{left:?} and {right:?}");
            assert_eq!(left.or(right), or, "{left:?} or {right:?}");
            assert_eq!(left.xor(right), xor, "{left:?} xor {right:?}");
        }
        assert_eq!([T, F, U].map(Reading::negate), [F, T, U]);
    }

    #[test]
    fn the_first_reason_is_kept() {
        let stale = Reading::<bool>::Unknown(Unknown::Stale);
        assert_eq!(U.and(stale), U);
        assert_eq!(stale.xor(U), stale);
        assert_eq!(T.and(stale), stale);
    }

    #[test]
    fn a_known_number_is_finite() {
        assert_eq!(Reading::number(1.5), Reading::Known(1.5));
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(Reading::number(bad), Reading::Unknown(Unknown::Overflow));
        }
    }
}
