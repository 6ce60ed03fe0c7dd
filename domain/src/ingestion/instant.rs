//! Dates as sources write them.

use super::reject::Reject;

/// Reads a date and time in UTC or with an offset, as epoch milliseconds: `2028-11-07T00:00:00Z`,
/// `2026-06-14T11:04:26.005876Z`, `2026-06-04 00:34:19+00`, `2028-11-07`.
///
/// # Errors
/// `bad_time`.
pub fn instant(field: &'static str, text: &str) -> Result<i64, Reject> {
    read(text.trim()).ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        Reject::new("bad_time", format!("{field} is `{shown}`, expected a date"))
    })
}

fn read(text: &str) -> Option<i64> {
    let (date, time) = match text.split_once(['T', ' ']) {
        Some((date, time)) => (date, time),
        None => (text, "00:00:00Z"),
    };
    let mut parts = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if !(1..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let offset_at = time.rfind(['Z', '+', '-']).unwrap_or(time.len());
    let (clock, offset) = time.split_at(offset_at);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut parts = clock.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = parts.next().unwrap_or(Some(0))?;
    if !(0..=23).contains(&hour) || !(0..=59).contains(&minute) || !(0..=60).contains(&second) {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some((seconds - offset_s(offset)?) * 1_000 + millis(fraction)?)
}

/// The first three digits of a fraction.
fn millis(fraction: &str) -> Option<i64> {
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
    digits.parse().ok()
}

/// `Z`, nothing, `+00`, `+05:30` or `-0800`.
fn offset_s(offset: &str) -> Option<i64> {
    let Some(sign) = offset.chars().next().filter(|sign| *sign != 'Z') else { return Some(0) };
    let digits: String = offset[1..].chars().filter(|c| *c != ':').collect();
    let hours: i64 = digits.get(..2)?.parse().ok()?;
    let minutes: i64 = digits.get(2..4).map_or(Some(0), |minutes| minutes.parse().ok())?;
    let seconds = hours * 3_600 + minutes * 60;
    Some(if sign == '-' { -seconds } else { seconds })
}

/// Days since 1970-01-01 in the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that a leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_in_the_forms_that_sources_write() {
        let check = |text, expected: Option<i64>| assert_eq!(read(text), expected, "{text}");
        check("1970-01-01T00:00:00Z", Some(0));
        check("2028-11-07T00:00:00Z", Some(1_857_168_000_000));
        check("2026-06-14T11:04:26.005876Z", Some(1_781_435_066_005));
        check("2026-06-14T11:04:26.5Z", Some(1_781_435_066_500));
        check("2026-06-04 00:34:19+00", Some(1_780_533_259_000));
        check("2026-06-04T02:34:19+02:00", Some(1_780_533_259_000));
        check("2024-02-29", Some(1_709_164_800_000));
        check("2024-02-29T12:00", Some(1_709_208_000_000));
        for bad in
            ["", "x", "2024-13-01", "2024-01-01T25:00:00Z", "2024-01-01T00:00:00.xZ", "99999-1-1"]
        {
            check(bad, None);
        }
        assert_eq!(instant("endDate", "soon").unwrap_err().reason, "bad_time");
    }
}
