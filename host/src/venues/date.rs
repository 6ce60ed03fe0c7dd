//! Dates as text, for the venues that write them.

const DAY_MS: i64 = 86_400_000;

/// Year, month and day of a day that is counted from 1970-01-01 (Hinnant, "chrono-compatible
/// low-level date algorithms").
pub(crate) fn civil(day: i64) -> (i64, i64, i64) {
    let z = day + 719_468;
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, of_month)
}

/// `2026-11-24T12:34:56Z`
pub(crate) fn rfc3339(at_ms: i64) -> String {
    let (date, time) = parts(at_ms);
    format!("{date}T{time}Z")
}

/// `2026-11-24T12:34:56.789Z`
pub(crate) fn rfc3339_millis(at_ms: i64) -> String {
    let (date, time) = parts(at_ms);
    format!("{date}T{time}.{:03}Z", at_ms.rem_euclid(1_000))
}

/// `2026-11-24 12:34:56+00`, which is not RFC 3339.
pub(crate) fn spaced(at_ms: i64) -> String {
    let (date, time) = parts(at_ms);
    format!("{date} {time}+00")
}

fn parts(at_ms: i64) -> (String, String) {
    let (year, month, day) = civil(at_ms.div_euclid(DAY_MS));
    let second = at_ms.rem_euclid(DAY_MS) / 1_000;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    (format!("{year:04}-{month:02}-{day:02}"), format!("{hour:02}:{minute:02}:{second:02}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339_millis(1_795_523_696_789), "2026-11-24T12:34:56.789Z");
        assert_eq!(spaced(1_709_251_199_000), "2024-02-29 23:59:59+00");
    }
}
