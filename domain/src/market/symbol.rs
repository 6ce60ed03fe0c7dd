//! What may be the name of an instrument.

/// The longest symbol, in bytes.
const LONGEST: usize = 64;

/// A symbol that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("symbol `{0}` is not valid; expected 1 to 64 visible ASCII characters, for example BTC")]
pub struct InvalidSymbol(pub String);

/// Checks a symbol: 1 to 64 visible ASCII characters, as in `BTC`, `PURR/USDC` or `@107`. Case
/// matters, as it does at the venues.
///
/// # Errors
/// [`InvalidSymbol`] with the value (its first 64 characters).
pub fn check_symbol(symbol: &str) -> Result<(), InvalidSymbol> {
    let visible = symbol.bytes().all(|byte| byte.is_ascii_graphic());
    if visible && (1..=LONGEST).contains(&symbol.len()) {
        Ok(())
    } else {
        Err(InvalidSymbol(symbol.chars().take(LONGEST).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::check_symbol;

    #[test]
    fn a_symbol_is_short_visible_ascii() {
        for good in ["BTC", "kPEPE", "PURR/USDC", "@107", "xyz:GOLD", &"X".repeat(64)] {
            assert!(check_symbol(good).is_ok(), "{good}");
        }
        for bad in ["", " BTC", "BTC\n", "ΒTC", "a b", &"X".repeat(65)] {
            assert!(check_symbol(bad).is_err(), "{bad}");
        }
        let message = check_symbol("a b").unwrap_err().to_string();
        assert!(message.contains("`a b`") && message.contains("for example BTC"), "{message}");
    }
}
