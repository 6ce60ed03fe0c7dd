//! Decimals as the venues write them.

/// `units` of 10^−`scale` as text, with at least one digit after the point and no other zeros at the
/// end: `84143.0`, `2.111`, `0.00154`.
pub(crate) fn decimal(units: i128, scale: u32) -> String {
    let one = 10_i128.pow(scale);
    let (sign, units) = (if units < 0 { "-" } else { "" }, units.abs());
    let (whole, rest) = (units / one, units % one);
    let rest = format!("{rest:0width$}", width = scale as usize);
    let rest = rest.trim_end_matches('0');
    format!("{sign}{whole}.{}", if rest.is_empty() { "0" } else { rest })
}

/// A figure with as many decimals, as text like [`decimal`]'s.
pub(crate) fn rounded(figure: f64, scale: u32) -> String {
    decimal(units(figure, scale), scale)
}

/// A figure in units of 10^−`scale`, rounded.
pub(crate) fn units(figure: f64, scale: u32) -> i128 {
    (figure * 10_f64.powi(i32::try_from(scale).unwrap_or_default())).round() as i128
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_has_a_point_and_no_idle_zeros() {
        for (units, scale, text) in [
            (841_430, 1, "84143.0"),
            (2_111, 3, "2.111"),
            (1_540, 6, "0.00154"),
            (-125, 7, "-0.0000125"),
            (0, 4, "0.0"),
            (7, 0, "7.0"),
        ] {
            assert_eq!(decimal(units, scale), text);
        }
        assert_eq!(rounded(-0.000_641_345_4, 10), "-0.0006413454");
    }
}
