//! What an answer means: a document, a failure that passes, or one that stays.

use std::time::Duration;

use serde_json::Value;

/// Why a source gave nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// It asks for patience.
    #[error("{host} limits the rate: {detail}")]
    Limited {
        /// The host.
        host: String,
        /// How long to wait, where it says so; at most five minutes.
        retry_after: Option<Duration>,
        /// The start of its answer.
        detail: String,
    },
    /// It is down or broken; later it may not be.
    #[error("{host} is unavailable: {detail}")]
    Unavailable {
        /// The host.
        host: String,
        /// The status and the start of its answer, or what the connection said.
        detail: String,
    },
    /// It refuses this request, and will refuse it again.
    #[error("{host} refuses the request: {detail}")]
    Refused {
        /// The host.
        host: String,
        /// The status and what it says.
        detail: String,
    },
    /// It took too long.
    #[error("{host} did not answer within {limit:?}")]
    Timeout {
        /// The host.
        host: String,
        /// The bound.
        limit: Duration,
    },
    /// The answer is longer than anything it should say.
    #[error("{host} answers more than {limit} bytes")]
    TooLarge {
        /// The host.
        host: String,
        /// The bound.
        limit: usize,
    },
    /// The answer is not what the source documents.
    #[error("the answer of {host} cannot be understood: {detail}")]
    Malformed {
        /// The host.
        host: String,
        /// What is wrong.
        detail: String,
    },
    /// Too many requests failed; it is left alone for a while.
    #[error(
        "{host} is left alone until {until_ms} ms since the epoch: {failures} requests failed in a row"
    )]
    LeftAlone {
        /// The host.
        host: String,
        /// Until when, epoch milliseconds.
        until_ms: i64,
        /// How many failed.
        failures: u32,
    },
}

impl SourceError {
    /// Whether trying again soon may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Limited { .. }
            | Self::Unavailable { .. }
            | Self::Timeout { .. }
            // Cut off in the middle, as a rule.
            | Self::Malformed { .. } => true,
            Self::Refused { .. } | Self::TooLarge { .. } | Self::LeftAlone { .. } => false,
        }
    }

    /// How long a source that limits us is left alone.
    #[must_use]
    pub fn patience(&self) -> Option<Duration> {
        match self {
            Self::Limited { retry_after, .. } => {
                Some(retry_after.unwrap_or(SHORTEST_PATIENCE).max(SHORTEST_PATIENCE))
            }
            _ => None,
        }
    }
}

/// An answer as it came.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The host that gave it.
    pub host: &'a str,
    /// Its HTTP status.
    pub status: u16,
    /// Its header `Retry-After`, in seconds.
    pub retry_after: Option<&'a str>,
    /// Its body.
    pub body: &'a [u8],
}

/// How long a source that limits us is left alone, whatever it says.
pub(super) const SHORTEST_PATIENCE: Duration = Duration::from_secs(10);
/// The longest wait that a source may ask for.
const LONGEST_PATIENCE: Duration = Duration::from_secs(300);
/// What is kept of an answer that is an error: it comes from outside.
const SHOWN: usize = 200;

/// Reads an answer. A status of 200 is not enough: some hosts put their refusals and their limits
/// into documents.
///
/// # Errors
/// Whatever it is instead of a document.
pub fn read_answer(answer: &Answer<'_>) -> Result<Value, SourceError> {
    let host = || answer.host.to_owned();
    let detail = || format!("status {}: {}", answer.status, shown(answer.body));
    match answer.status {
        200..=299 => {}
        429 => {
            let retry_after = answer.retry_after.and_then(seconds);
            return Err(SourceError::Limited { host: host(), retry_after, detail: detail() });
        }
        // What is unknown to Hyperliquid is a server's error there, with a body of its own.
        500 if answer.body.trim_ascii() == b"null" => {
            return Err(SourceError::Refused { host: host(), detail: detail() });
        }
        // A proxy in front of the source answers pages, not documents; it changes its mind.
        403 if is_page(answer.body) => {
            return Err(SourceError::Unavailable { host: host(), detail: detail() });
        }
        408 | 425 | 500..=599 => {
            return Err(SourceError::Unavailable { host: host(), detail: detail() });
        }
        _ => return Err(SourceError::Refused { host: host(), detail: detail() }),
    }
    let document: Value = serde_json::from_slice(answer.body).map_err(|error| {
        SourceError::Malformed { host: host(), detail: format!("{error}: {}", shown(answer.body)) }
    })?;
    match disguised(&document) {
        None => Ok(document),
        Some(Disguise::Limit) => {
            Err(SourceError::Limited { host: host(), retry_after: None, detail: detail() })
        }
        Some(Disguise::Status(429)) => {
            Err(SourceError::Limited { host: host(), retry_after: None, detail: detail() })
        }
        Some(Disguise::Status(500..=599)) => {
            Err(SourceError::Unavailable { host: host(), detail: detail() })
        }
        Some(Disguise::Status(_)) => Err(SourceError::Refused { host: host(), detail: detail() }),
    }
}

/// An error that came with status 200.
enum Disguise {
    /// `{"error":"Too Many Requests"}`
    Limit,
    /// `{"statusCode":400,"body":"…"}`: the envelope of the function behind the host.
    Status(u64),
}

fn disguised(document: &Value) -> Option<Disguise> {
    let fields = document.as_object()?;
    if let Some(status) = fields.get("statusCode").and_then(Value::as_u64)
        && fields.contains_key("body")
        && status >= 400
    {
        return Some(Disguise::Status(status));
    }
    match fields.get("error")?.as_str()? {
        error if error.to_ascii_lowercase().contains("too many requests") => Some(Disguise::Limit),
        _ if fields.len() == 1 => Some(Disguise::Status(400)),
        _ => None,
    }
}

fn seconds(header: &str) -> Option<Duration> {
    let seconds: u64 = header.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_PATIENCE))
}

fn is_page(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'<')
}

fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * SHOWN)]);
    let word = |c: char| c.is_whitespace() || c.is_control();
    let words: Vec<_> = text.split(word).filter(|word| !word.is_empty()).collect();
    let line = words.join(" ");
    line[..line.floor_char_boundary(SHOWN)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, retry_after: Option<&str>, body: &str) -> Result<Value, SourceError> {
        read_answer(&Answer { host: "venue", status, retry_after, body: body.as_bytes() })
    }

    #[track_caller]
    fn check(status: u16, body: &str, expected: &str, transient: bool) {
        let error = read(status, None, body).unwrap_err();
        assert_eq!(error.to_string(), expected, "{status} {body}");
        assert_eq!(error.is_transient(), transient, "{status} {body}");
    }

    #[test]
    fn what_is_no_document_is_told_apart() {
        let page = "<html><body>502 Bad Gateway</body></html>";
        check(502, page, &format!("venue is unavailable: status 502: {page}"), true);
        check(403, "<html>", "venue is unavailable: status 403: <html>", true);
        check(
            403,
            "error code: 1010",
            "venue refuses the request: status 403: error code: 1010",
            false,
        );
        check(500, "null", "venue refuses the request: status 500: null", false);
        check(
            422,
            "Failed to deserialize",
            "venue refuses the request: status 422: Failed to deserialize",
            false,
        );
        check(422, "a\0 \u{1b}[1m\r\nb", "venue refuses the request: status 422: a [1m b", false);
        check(429, "null", "venue limits the rate: status 429: null", true);
        check(
            200,
            r#"{"error":"Too Many Requests"}"#,
            r#"venue limits the rate: status 200: {"error":"Too Many Requests"}"#,
            true,
        );
        check(
            200,
            r#"{"statusCode":400,"body":"{\"message\":\"no chain\"}","headers":{}}"#,
            r#"venue refuses the request: status 200: {"statusCode":400,"body":"{\"message\":\"no chain\"}","headers":{}}"#,
            false,
        );
        check(
            200,
            r#"{"error":"Invalid token id"}"#,
            r#"venue refuses the request: status 200: {"error":"Invalid token id"}"#,
            false,
        );
        let cut = read(200, None, r#"{"coins":{"a"#).unwrap_err();
        assert!(cut.is_transient() && cut.to_string().contains("EOF"), "{cut}");
    }

    #[test]
    fn legal_answers_are_documents_however_empty() {
        for body in [
            "null",
            "[]",
            r#"{"coins":{}}"#,
            r#"{"history":[]}"#,
            "75725738.6",
            r#"{"error":null}"#,
        ] {
            assert!(read(200, None, body).is_ok(), "{body}");
        }
    }

    #[test]
    fn patience_is_what_the_source_asks_for_within_a_bound() {
        let after = |header| read(429, header, "").unwrap_err().patience().unwrap().as_secs();
        assert_eq!(after(Some("7")), 10);
        assert_eq!(after(Some("40")), 40);
        assert_eq!(after(Some("86400")), 300);
        assert_eq!(after(Some("Wed, 21 Oct 2026 07:28:00 GMT")), 10);
        assert_eq!(after(None), 10);
        assert_eq!(read(502, None, "").unwrap_err().patience(), None);
    }
}
