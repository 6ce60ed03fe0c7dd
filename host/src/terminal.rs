//! Text from elsewhere, made fit for a terminal: it may not move the cursor or reorder a line.

use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Table};

/// Where a command writes: results to `out`, everything else to `err`.
#[allow(missing_debug_implementations, reason = "writers have none")]
pub struct Streams<'a> {
    /// Results: what a script reads.
    pub out: &'a mut (dyn Write + Send),
    /// Errors and remarks.
    pub err: &'a mut (dyn Write + Send),
}

/// Replaces control characters, line breaks and text-direction marks by their escapes.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if is_hazard(character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// The beginning of a text that would make a table too wide; documents have the whole of it.
pub(crate) fn first_words(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn is_hazard(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// An instant in epoch milliseconds as UTC, as in `2026-11-23T20:00:00Z`.
///
/// An instant before 1970 or after 9999 is shown as its number.
#[must_use]
pub(crate) fn utc(at_ms: i64) -> String {
    const END_OF_9999_MS: u64 = 253_402_300_799_999;
    match u64::try_from(at_ms) {
        Ok(at_ms) if at_ms <= END_OF_9999_MS => {
            humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(at_ms)).to_string()
        }
        _ => format!("{at_ms} ms"),
    }
}

/// A table with a header, ready for rows.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header.iter().copied());
    table
}

/// A cell of text that may come from elsewhere.
pub(crate) fn text(text: &str) -> Cell {
    Cell::new(escape(text))
}

/// A cell of a number: aligned right.
pub(crate) fn number(number: impl ToString) -> Cell {
    Cell::new(number.to_string()).set_alignment(CellAlignment::Right)
}

/// Writes one JSON document, indented, for `--json`.
pub(crate) fn write_json(
    out: &mut (dyn Write + Send),
    document: &impl serde::Serialize,
) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, document)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hazards_are_escaped_and_letters_are_kept() {
        let check = |text: &str, expected: &str| assert_eq!(escape(text), expected);
        check("Zürich 東京 🙂", "Zürich 東京 🙂");
        check("\u{1b}[31mred\u{7}", "\\u{1b}[31mred\\u{7}");
        check("a\r\nb\tc", "a\\r\\nb\\tc");
        check("\u{9b}2J", "\\u{9b}2J");
        check("abc\u{202e}txt.exe", "abc\\u{202e}txt.exe");
    }

    #[test]
    fn instants_are_utc_and_never_panic() {
        assert_eq!(utc(1_763_928_000_000), "2025-11-23T20:00:00Z");
        assert_eq!(utc(-1), "-1 ms");
        assert_eq!(utc(i64::MAX), format!("{} ms", i64::MAX));
    }
}
