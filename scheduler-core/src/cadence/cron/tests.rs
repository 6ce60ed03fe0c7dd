use chrono::{Datelike, NaiveDate, Timelike};
use proptest::prelude::*;

use super::*;
use crate::cadence::Cadence;

const HOUR: i64 = 3_600_000;

fn cron(expression: &str, zone: &str) -> Cron {
    Cron::new(expression, zone).unwrap_or_else(|error| panic!("{expression}: {error}"))
}

/// Epoch milliseconds of `2026-03-29T00:59:00Z`.
fn at(utc: &str) -> i64 {
    utc.parse::<DateTime<Utc>>().unwrap_or_else(|error| panic!("{utc}: {error}")).timestamp_millis()
}

/// The slots after `from` until `to`, as times in UTC: `01:30`, with seconds where there are some.
#[track_caller]
fn check(expression: &str, zone: &str, from: &str, to: &str, expected: &[&str]) {
    let cron = cron(expression, zone);
    let slots = std::iter::successors(cron.next_after(at(from)), |slot| cron.next_after(*slot));
    let slots: Vec<String> = slots
        .take_while(|slot| *slot <= at(to))
        .map(|slot| DateTime::from_timestamp_millis(slot).unwrap_or_default())
        .map(|slot| slot.format(if slot.second() == 0 { "%H:%M" } else { "%H:%M:%S" }).to_string())
        .collect();
    assert_eq!(slots, expected, "{expression} in {zone}");
}

#[test]
fn a_slot_is_what_the_wall_clock_shows() {
    let (from, to) = ("2026-06-10T00:00:00Z", "2026-06-10T23:59:59Z");
    check("30 9 * * *", "UTC", from, to, &["09:30"]);
    check("30 9 * * *", "Europe/Berlin", from, to, &["07:30"]);
    check("30 9 * * *", "Asia/Kolkata", from, to, &["04:00"]);
    check("30 9 * * WED", "America/New_York", from, to, &["13:30"]);
    check("30 9 * * THU", "America/New_York", from, to, &[]);
    check("0 30 9 9 * *", "UTC", from, to, &[]);
    check("30 1 */8 * * *", "UTC", from, to, &["00:01:30", "08:01:30", "16:01:30"]);
    check("0 0 10 * MON", "UTC", "2026-06-09T00:00:00Z", to, &["00:00"]);
}

#[test]
fn a_time_that_the_clock_skips_fires_once_at_the_first_instant_after_it() {
    // In Berlin 02:00 to 03:00 is not there; it is 01:00 in UTC.
    let (from, to) = ("2026-03-28T22:00:00Z", "2026-03-29T02:15:00Z");
    check("30 2 * * *", "Europe/Berlin", from, to, &["01:00"]);
    check("0 2,3 * * *", "Europe/Berlin", from, to, &["01:00"]);
    check("0,30 2 * * *", "Europe/Berlin", from, to, &["01:00"]);
    check("*/30 1-3 * * *", "Europe/Berlin", from, to, &["00:00", "00:30", "01:00", "01:30"]);
    check("0 3 * * *", "Europe/Berlin", from, to, &["01:00"]);
    check("0 4 * * *", "Europe/Berlin", from, to, &["02:00"]);
    // Half an hour, as on Lord Howe Island.
    let (from, to) = ("2026-10-03T14:00:00Z", "2026-10-03T17:00:00Z");
    check("15 2 * * *", "Australia/Lord_Howe", from, to, &["15:30"]);
    // At midnight, as in Cairo: the day begins at 01:00.
    let (from, to) = ("2026-04-23T20:00:00Z", "2026-04-24T12:00:00Z");
    check("0 0 * * *", "Africa/Cairo", from, to, &["22:00"]);
    // A whole day: Samoa went over the date line.
    let (from, to) = ("2011-12-29T12:00:00Z", "2011-12-31T12:00:00Z");
    check("0 12 30 12 *", "Pacific/Apia", from, to, &["10:00"]);
}

#[test]
fn a_time_that_the_clock_shows_twice_fires_the_first_time() {
    // In Berlin 02:00 to 03:00 comes twice, from 00:00 and from 01:00 in UTC.
    let (from, to) = ("2026-10-24T22:30:00Z", "2026-10-25T02:00:00Z");
    check("30 2 * * *", "Europe/Berlin", from, to, &["00:30"]);
    check("0,30 2 * * *", "Europe/Berlin", from, to, &["00:00", "00:30"]);
    check(
        "*/30 1-3 * * *",
        "Europe/Berlin",
        from,
        to,
        &["23:00", "23:30", "00:00", "00:30", "02:00"],
    );
    check("*/20 2 * * *", "Europe/Berlin", from, to, &["00:00", "00:20", "00:40"]);
    // Asked in the middle of the second hour, it does not fire again.
    check("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", to, &[]);
    check("* * 2 * * *", "Europe/Berlin", "2026-10-25T00:59:59Z", to, &[]);
}

#[test]
fn any_hour_keeps_the_pace_of_real_time() {
    let (from, to) = ("2026-10-24T23:30:00Z", "2026-10-25T02:00:00Z");
    let all =
        ["23:45", "00:00", "00:15", "00:30", "00:45", "01:00", "01:15", "01:30", "01:45", "02:00"];
    check("*/15 * * * *", "Europe/Berlin", from, to, &all);
    check("25 * * * *", "Europe/Berlin", from, to, &["00:25", "01:25"]);
    // Every second hour of the wall clock: both times that it is two.
    check(
        "0 */2 * * *",
        "Europe/Berlin",
        from,
        "2026-10-25T03:00:00Z",
        &["00:00", "01:00", "03:00"],
    );
    let (from, to) = ("2026-03-28T23:30:00Z", "2026-03-29T02:00:00Z");
    check(
        "*/30 * * * *",
        "Europe/Berlin",
        from,
        to,
        &["00:00", "00:30", "01:00", "01:30", "02:00"],
    );
    // Two is not there: the next is at four.
    check("0 */2 * * *", "Europe/Berlin", from, to, &["02:00"]);
}

#[test]
fn days_have_as_many_hours_as_they_have() {
    let hourly = cron("0 * * * *", "America/New_York");
    for (day, hours) in [("2026-03-08", 23), ("2026-11-01", 25), ("2026-07-04", 24)] {
        let day: NaiveDate = day.parse().expect("a date");
        let midnight = |day: NaiveDate| {
            let local = day
                .and_hms_opt(0, 0, 0)
                .and_then(|wall| chrono_tz::America::New_York.from_local_datetime(&wall).single());
            local.expect("midnight").timestamp_millis()
        };
        let (from, to) = (midnight(day), midnight(day.succ_opt().expect("a date")));
        let slots =
            std::iter::successors(hourly.next_after(from - 1), |slot| hourly.next_after(*slot));
        let slots: Vec<i64> = slots.take_while(|slot| *slot < to).collect();
        assert_eq!(slots.len(), hours, "{day}");
        assert!(slots.windows(2).all(|pair| pair[1] - pair[0] == HOUR), "{day}");
    }
}

#[test]
fn what_is_wrong_is_named_with_what_would_be_right() {
    let table = [
        ("* * *", "UTC", "has 3 fields; expected 5"),
        ("* * * * * * *", "UTC", "has 7 fields"),
        ("", "UTC", "has 0 fields"),
        ("@hourly", "UTC", "has 1 fields"),
        (
            "61 * * * *",
            "UTC",
            "the minute `61` of cron expression `61 * * * *` is refused; expected 0 to 59",
        ),
        ("* 24 * * *", "UTC", "the hour `24`"),
        ("* * 0 * *", "UTC", "the day of month `0`"),
        ("* * * 13 *", "UTC", "the month `13`"),
        ("* * * * 8", "UTC", "the day of week `8`"),
        ("60 * * * * *", "UTC", "the second `60`"),
        ("x * * * *", "UTC", "the minute `x`"),
        ("1-x * * * *", "UTC", "the minute `1-x`"),
        ("*/0 * * * *", "UTC", "the minute `*/0`"),
        ("* * @daily * *", "UTC", "the day of month `@daily`"),
        ("0 0 30 2 *", "UTC", "never fires"),
        ("0 0 * * *", "Mars/Olympus", "`Mars/Olympus` is not a time zone; expected an IANA name"),
        ("0 0 * * *", "", "`` is not a time zone"),
    ];
    for (expression, zone, expected) in table {
        let error = Cron::new(expression, zone).expect_err(expression).to_string();
        assert!(error.contains(expected), "{expression}: {error}");
    }
}

#[test]
fn a_preview_says_what_the_change_of_the_clocks_does() {
    let notes = |expression: &str, after: &str, count| {
        let cadence = Cadence::cron(expression, "Europe/Berlin").expect("a cadence");
        let fires = cadence.preview(0, at(after), count);
        fires.into_iter().map(|fire| (fire.local, fire.note)).collect::<Vec<_>>()
    };
    let line = |local: &str, note| (local.to_owned(), note);
    assert_eq!(
        notes("30 2 * * *", "2026-10-24T12:00:00Z", 2),
        [
            line("2026-10-25 02:30:00 CEST", Some(FireNote::Once)),
            line("2026-10-26 02:30:00 CET", None),
        ]
    );
    assert_eq!(
        notes("30 * * * *", "2026-10-25T00:00:00Z", 3),
        [
            line("2026-10-25 02:30:00 CEST", Some(FireNote::FirstOfTwo)),
            line("2026-10-25 02:30:00 CET", Some(FireNote::SecondOfTwo)),
            line("2026-10-25 03:30:00 CET", None),
        ]
    );
    let every = Cadence::every(std::time::Duration::from_millis(1_500)).preview(0, 0, 2);
    let every: Vec<&str> = every.iter().map(|fire| fire.local.as_str()).collect();
    assert_eq!(every, ["1970-01-01 00:00:01.500 UTC", "1970-01-01 00:00:03 UTC"]);
    assert_eq!(Cadence::Manual.preview(0, 0, 5), []);
}

const ZONES: [&str; 6] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Africa/Cairo",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Slots only grow, are strictly after what was asked, and asking in between finds the same.
    #[test]
    fn slots_are_strictly_increasing(
        zone in 0..ZONES.len(), pattern in 0_usize..6, minute in 0..60, hour in 0..24,
        after in 1_767_225_600_000_i64..1_830_297_600_000, step in 1_i64..100_000,
    ) {
        let expression = [
            format!("{minute} {hour} * * *"),
            format!("{minute} * * * *"),
            format!("*/7 {hour} * * *"),
            "*/5 * * * *".to_owned(),
            format!("{minute} */3 * * *"),
            format!("17 {minute} 0-{hour} * * MON-FRI"),
        ];
        let cron = cron(&expression[pattern], ZONES[zone]);
        let mut slot = after;
        for _ in 0..20 {
            let next = cron.next_after(slot).expect("a slot");
            prop_assert!(next > slot);
            prop_assert_eq!(next % 1_000, 0);
            let between = slot + step.min(next - slot - 1);
            prop_assert_eq!(cron.next_after(between), Some(next));
            slot = next;
        }
    }

    /// A daily job fires once on every day of the year, whatever the clocks do.
    #[test]
    fn a_daily_job_fires_once_on_each_day(zone in 0..ZONES.len(), minute in 0..60, hour in 0..24) {
        let daily = cron(&format!("{minute} {hour} * * *"), ZONES[zone]);
        let mut slot = at("2026-01-01T12:00:00Z");
        let mut day = None;
        for _ in 0..400 {
            slot = daily.next_after(slot).expect("a slot");
            let local = DateTime::from_timestamp_millis(slot).expect("a time");
            let today = local.with_timezone(&daily.inner.zone).date_naive();
            if let Some(day) = day {
                prop_assert_eq!(Some(today), NaiveDate::succ_opt(&day), "{} after {}", today, day);
            }
            prop_assert!(today.year() >= 2026);
            day = Some(today);
        }
    }

    /// Every hour has its slot, also on days with 23 and 25 of them.
    #[test]
    fn an_hourly_job_skips_no_hour(zone in 0..ZONES.len(), minute in 0..60, start in 0_i64..8_760) {
        let hourly = cron(&format!("{minute} * * * *"), ZONES[zone]);
        let mut slot = hourly.next_after(at("2026-01-01T00:00:00Z") + start * HOUR).expect("a slot");
        for _ in 0..200 {
            let next = hourly.next_after(slot).expect("a slot");
            // Where the clocks change by half an hour, one hour is half as long or half as long again.
            prop_assert!((next - slot) % (HOUR / 2) == 0 && next - slot <= HOUR * 3 / 2, "{}", slot);
            slot = next;
        }
    }
}
