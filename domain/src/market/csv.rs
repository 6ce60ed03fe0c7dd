//! Reading a candle file line by line, in memory bounded by the longest allowed line.
//!
//! ```ignore
//! let file = BufReader::new(File::open("BTC-USD-1h.csv")?);
//! for row in CandleReader::new(file, Interval::H1)? {
//!     let Row { line, outcome } = row?;
//!     match outcome {
//!         Ok(candle) => keep(candle),
//!         Err(reason) => complain(line, reason),
//!     }
//! }
//! ```

use std::io::{self, BufRead};

use super::row::{self, COLUMNS, RejectReason};
use super::{Candle, Interval};

/// The longest line that is read, in bytes. A longer one is left out.
pub const LONGEST_LINE: usize = 64 * 1024;

/// Why a candle file cannot be read at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CsvError {
    /// There is nothing in it.
    #[error("the candle file is empty, expected the header `{}`", COLUMNS.join(","))]
    Empty,
    /// Its first line is not the header.
    #[error("the candle file starts with `{found}`, expected the header `{}`", COLUMNS.join(","))]
    Header {
        /// The first line, its first 120 characters.
        found: String,
    },
    /// The input failed.
    #[error("could not read line {line} of the candle file")]
    Read {
        /// The line that was being read, from 1.
        line: u64,
        /// The input's error.
        #[source]
        source: io::Error,
    },
}

/// A line of the file after its header.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The line's number; the header is line 1.
    pub line: u64,
    /// Its bar, or why it is left out.
    pub outcome: Result<Candle, RejectReason>,
}

/// The rows of a candle file with the header `open_time_ms,open,high,low,close,volume`.
///
/// A byte order mark, CRLF and blank lines are fine; quotes are not part of the format. A bad line
/// is a [`Row`] with its reason, and the lines after it are read on. Stop at the first `Err`: the
/// input has failed.
#[derive(Debug)]
pub struct CandleReader<R> {
    input: R,
    interval: Interval,
    line: u64,
    buffer: Vec<u8>,
}

impl<R: BufRead> CandleReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// When the input fails, is empty, or starts with something else.
    pub fn new(input: R, interval: Interval) -> Result<Self, CsvError> {
        let mut reader = Self { input, interval, line: 0, buffer: Vec::new() };
        let length = reader.read_line()?;
        let first = reader.buffer.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&reader.buffer);
        let first = String::from_utf8_lossy(first);
        match length {
            Length::None => Err(CsvError::Empty),
            Length::Whole if first.split(',').map(str::trim).eq(COLUMNS) => Ok(reader),
            _ => Err(CsvError::Header { found: first.trim().chars().take(120).collect() }),
        }
    }

    /// Reads the next line into the buffer, without its line feed.
    fn read_line(&mut self) -> Result<Length, CsvError> {
        self.line += 1;
        read_bounded(&mut self.input, &mut self.buffer)
            .map_err(|source| CsvError::Read { line: self.line, source })
    }

    fn parse(&self, length: Length) -> Result<Candle, RejectReason> {
        if length == Length::TooLong {
            return Err(RejectReason::TooLong { limit: LONGEST_LINE });
        }
        let line = std::str::from_utf8(&self.buffer)
            .map_err(|error| RejectReason::NotUtf8 { valid: error.valid_up_to() })?;
        row::parse(line, self.interval)
    }
}

impl<R: BufRead> Iterator for CandleReader<R> {
    type Item = Result<Row, CsvError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.read_line() {
                Err(error) => return Some(Err(error)),
                Ok(Length::None) => return None,
                Ok(Length::Whole) if self.buffer.trim_ascii().is_empty() => {}
                Ok(length) => {
                    return Some(Ok(Row { line: self.line, outcome: self.parse(length) }));
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    /// The input has ended.
    None,
    Whole,
    /// The buffer holds the beginning of the line.
    TooLong,
}

/// Like `BufRead::read_until`, but what is beyond [`LONGEST_LINE`] is read and forgotten.
fn read_bounded(input: &mut impl BufRead, buffer: &mut Vec<u8>) -> io::Result<Length> {
    buffer.clear();
    let mut length = Length::None;
    loop {
        let chunk = match input.fill_buf() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if chunk.is_empty() {
            return Ok(length);
        }
        let end = chunk.iter().position(|&byte| byte == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        let room = LONGEST_LINE - buffer.len();
        buffer.extend_from_slice(&part[..part.len().min(room)]);
        if part.len() > room {
            length = Length::TooLong;
        } else if length == Length::None {
            length = Length::Whole;
        }
        let used = part.len() + usize::from(end.is_some());
        input.consume(used);
        if end.is_some() {
            return Ok(length);
        }
    }
}

#[cfg(test)]
mod tests;
