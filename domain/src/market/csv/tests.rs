use std::io::{self, BufReader, Read};

use super::{CandleReader, CsvError, Interval, LONGEST_LINE};
use crate::market::RejectReason;

const HEADER: &str = "open_time_ms,open,high,low,close,volume";

/// Line numbers with the open time of a bar or the reason of a reject.
fn read(text: &[u8]) -> Vec<(u64, Result<i64, RejectReason>)> {
    CandleReader::new(text, Interval::H1)
        .unwrap()
        .map(|row| row.unwrap())
        .map(|row| (row.line, row.outcome.map(|candle| candle.open_time_ms)))
        .collect()
}

#[test]
fn line_ends_byte_order_mark_and_blank_lines_do_not_matter() {
    #[track_caller]
    fn check(text: &str) {
        let times: Vec<_> = read(text.as_bytes()).into_iter().map(|(_, time)| time).collect();
        assert_eq!(times, [Ok(0), Ok(3_600_000)], "{text:?}");
    }
    check(&format!("{HEADER}\n0,1,1,1,1,1\n3600000,1,1,1,1,1\n"));
    check(&format!("{HEADER}\n0,1,1,1,1,1\n3600000,1,1,1,1,1"));
    check(&format!("\u{feff}{HEADER}\r\n0,1,1,1,1,1\r\n3600000,1,1,1,1,1\r\n"));
    check(&format!("{HEADER}\n\n0,1,1,1,1,1\n  \n3600000,1,1,1,1,1\n\r\n\n"));
    check("open_time_ms, open, high, low, close, volume\n0,1,1,1,1,1\n3600000,1,1,1,1,1");
}

#[test]
fn a_wrong_header_is_an_error_that_names_the_right_one() {
    #[track_caller]
    fn check(text: &[u8], expected: &str) {
        let error = CandleReader::new(text, Interval::H1).unwrap_err().to_string();
        assert_eq!(error, format!("{expected}, expected the header `{HEADER}`"));
    }
    check(b"", "the candle file is empty");
    check(b"\n", "the candle file starts with ``");
    check(b"0,1,1,1,1,1\n", "the candle file starts with `0,1,1,1,1,1`");
    check(
        b"time,open,high,low,close,volume",
        "the candle file starts with `time,open,high,low,close,volume`",
    );
    check(
        b"open_time_ms,open,high,low,close",
        "the candle file starts with `open_time_ms,open,high,low,close`",
    );
    check(b"\xff\xfe", "the candle file starts with `\u{fffd}\u{fffd}`");
    let long = vec![b'x'; 3 * LONGEST_LINE];
    check(&long, &format!("the candle file starts with `{}`", "x".repeat(120)));
}

#[test]
fn a_bad_line_is_rejected_by_number_and_the_next_one_is_read() {
    let mut text = format!("{HEADER}\n0,1,1,1,1,1\n").into_bytes();
    text.extend(vec![b'7'; 2 * 1024 * 1024]);
    text.extend(b"\n3600000,1,1,1,1,\xff\n7200000,1,1\n10800000,1,1,1,1,1\n");

    let rows = read(&text);

    assert_eq!(
        rows,
        [
            (2, Ok(0)),
            (3, Err(RejectReason::TooLong { limit: LONGEST_LINE })),
            (4, Err(RejectReason::NotUtf8 { valid: 16 })),
            (5, Err(RejectReason::FieldCount { found: 3 })),
            (6, Ok(10_800_000)),
        ]
    );
}

#[test]
fn the_longest_line_is_read_and_one_byte_more_is_not_whatever_the_input_buffer() {
    for capacity in [1, 7, 8 * 1024, 1024 * 1024] {
        let blanks = " ".repeat(LONGEST_LINE - "0,1,1,1,1,1".len());
        let text = format!("{HEADER}\n0,1,1,1,1,1{blanks}\n0,1,1,1,1,1{blanks} \n0,1,1,1,1,1");
        let input = BufReader::with_capacity(capacity, text.as_bytes());
        let mut reader = CandleReader::new(input, Interval::H1).unwrap();
        let good: Vec<_> = reader.by_ref().map(|row| row.unwrap().outcome.is_ok()).collect();
        assert_eq!(good, [true, false, true]);
        assert!(reader.buffer.capacity() <= 2 * LONGEST_LINE, "{}", reader.buffer.capacity());
    }
}

#[test]
fn an_input_that_fails_is_an_error_with_the_line_it_failed_at() {
    struct Fails;
    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let start = format!("{HEADER}\n0,1,1,1,1,1\n");
    let input = BufReader::new(start.as_bytes().chain(Fails));
    let mut reader = CandleReader::new(input, Interval::H1).unwrap();
    assert!(reader.next().unwrap().unwrap().outcome.is_ok());
    let error = reader.next().unwrap().unwrap_err();
    assert!(matches!(error, CsvError::Read { line: 3, .. }), "{error:?}");
}
