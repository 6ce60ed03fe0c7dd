//! Configuration: read once from flags and environment, checked once, then passed by value.
//!
//! Flags and their variables are declared beside the commands (`cli`); their values are parsed by
//! the functions here, so that a mistake is an error that names the flag, the variable and the
//! value. Tokens come from the environment only: a flag would show them to every process.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use rust_decimal::Decimal;

use crate::tokens::{Minted, Tokens};

/// What is wrong with the configuration. No variant ever holds a token or a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value cannot be understood.
    #[error("{name} is `{value}`: expected {expected}")]
    Invalid {
        /// The variable.
        name: &'static str,
        /// What it holds.
        value: String,
        /// What would be right.
        expected: &'static str,
        /// What the parser said.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// A variable holds bytes that are not text.
    #[error("{name} is not valid UTF-8")]
    NotText {
        /// The variable.
        name: &'static str,
    },
    /// A token cannot be used. Its value is not shown.
    #[error("{name}: {problem}; expected {expected}")]
    Token {
        /// The variable.
        name: &'static str,
        /// What is wrong, without the value.
        problem: String,
        /// What would be right.
        expected: &'static str,
    },
    /// The address can be reached from other machines, and a token is not set.
    #[error(
        "--bind (ARENA_BIND) is `{bind}`, which other machines can reach: set {missing} \
         (16 characters or more), or bind to 127.0.0.1"
    )]
    OpenBind {
        /// The address.
        bind: SocketAddr,
        /// The variables that are not set.
        missing: String,
    },
}

/// How a variable is looked up: [`process_environment`], or a test's own table.
pub type Environment<'a> = &'a (dyn Fn(&'static str) -> Result<Option<String>, ConfigError> + Sync);

/// Reads a variable of this process; an empty one counts as not set.
///
/// # Errors
/// [`ConfigError::NotText`].
pub fn process_environment(name: &'static str) -> Result<Option<String>, ConfigError> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.trim().is_empty())),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(ConfigError::NotText { name }),
    }
}

/// Where the HTTP interface listens and whom it lets in.
#[derive(Debug)]
pub struct ServeConfig {
    /// The address; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Digests of the accepted tokens.
    pub tokens: Tokens,
    /// The tokens that were made because none were set: to be shown once.
    pub minted: Minted,
}

impl ServeConfig {
    /// Checks the address against the tokens of the environment.
    ///
    /// # Errors
    /// [`ConfigError::OpenBind`] for an address that other machines can reach while a token is
    /// not set; [`ConfigError::Token`] for a token that cannot be used.
    pub fn new(bind: SocketAddr, environment: Environment<'_>) -> Result<Self, ConfigError> {
        let (tokens, minted) = Tokens::read(environment)?;
        if !is_loopback(bind.ip()) && !minted.is_empty() {
            return Err(ConfigError::OpenBind { bind, missing: minted.names().join(" and ") });
        }
        Ok(Self { bind, tokens, minted })
    }
}

/// Whether only this machine can reach the address.
fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// The address of a database. Debug and Display leave its password out.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The address with its password, for the driver.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DatabaseUrl {
    type Err = std::convert::Infallible;

    /// Takes any text: whether it can be opened is the store's question, and a parser's message
    /// would show the password.
    fn from_str(url: &str) -> Result<Self, Self::Err> {
        Ok(Self(url.to_owned()))
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.split_once("://"), self.0.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => write!(f, "{scheme}://…@{host}"),
            _ => f.write_str(&self.0),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

/// Parses `--bind`.
pub(crate) fn bind(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "expected an IP address and a port, as in 127.0.0.1:8080 or [::1]:0 \
         (--bind or ARENA_BIND)"
            .to_owned()
    })
}

/// Parses the interval of a worker; `flag` and `variable` name it in the error.
pub(crate) fn interval(text: &str, flag: &str, variable: &str) -> Result<Duration, String> {
    span(text, Duration::from_millis(100), MONTH)
        .map_err(|expected| format!("{expected}, as in 15s (--{flag} or {variable})"))
}

/// Parses `--lease`. Under a second, an ordinary pause of the machine would lose the lease.
pub(crate) fn lease(text: &str) -> Result<Duration, String> {
    span(text, Duration::from_secs(1), MONTH)
        .map_err(|expected| format!("{expected}, as in 5m (--lease)"))
}

/// Parses `--wait`.
pub(crate) fn wait(text: &str) -> Result<Duration, String> {
    span(text, Duration::ZERO, MONTH).map_err(|expected| format!("{expected}, as in 30s (--wait)"))
}

/// Parses how long something is kept: less than a day would delete what is still looked at.
pub(crate) fn kept(text: &str) -> Result<Duration, String> {
    span(text, DAY, 36_500 * DAY).map_err(|expected| format!("{expected}, as in 30d"))
}

/// Parses the address of a venue's REST; a slash at its end is left out.
pub(crate) fn http_url(text: &str) -> Result<String, String> {
    venue_url(text, &["https", "http"], "https://api.example.com")
}

/// Parses the address of a venue's stream.
pub(crate) fn ws_url(text: &str) -> Result<String, String> {
    venue_url(text, &["wss", "ws"], "wss://api.example.com/ws")
}

fn venue_url(text: &str, schemes: &[&str], example: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    let is_one = text.split_once("://").is_some_and(|(scheme, rest)| {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        schemes.contains(&scheme) && !host.is_empty() && !host.contains(['@', ' '])
    });
    if is_one && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    let schemes = schemes.join(":// or ");
    Err(format!(
        "expected an address that begins with {schemes}:// and holds no password, as in {example}"
    ))
}

/// Parses a price of tokens.
pub(crate) fn price(text: &str) -> Result<Decimal, String> {
    let price = text.parse::<Decimal>().ok();
    price
        .filter(|price| (Decimal::ZERO..=Decimal::from(10_000)).contains(price))
        .ok_or_else(|| "expected dollars between 0 and 10000, as in 2.50".to_owned())
}

const DAY: Duration = Duration::from_secs(24 * 3600);
const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

fn span(text: &str, shortest: Duration, longest: Duration) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(span) if (shortest..=longest).contains(&span) => Ok(span),
        _ => Err(format!(
            "expected a time between {} and {} with its unit",
            humantime::format_duration(shortest),
            humantime::format_duration(longest),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::{API_BEARER_TOKENS, INTERNAL_SERVICE_TOKEN};

    const LONG_ENOUGH: &str = "0123456789abcdef";

    fn serve(
        bind: &str,
        service: Option<&str>,
        bearers: Option<&str>,
    ) -> Result<ServeConfig, ConfigError> {
        let environment = |name| {
            Ok(match name {
                INTERNAL_SERVICE_TOKEN => service.map(str::to_owned),
                API_BEARER_TOKENS => bearers.map(str::to_owned),
                other => panic!("nobody sets {other}"),
            })
        };
        ServeConfig::new(bind.parse().unwrap(), &environment)
    }

    #[test]
    fn an_open_bind_needs_both_kinds_of_token() {
        let check = |service, bearers, missing: Option<&str>| {
            for bind in ["0.0.0.0:80", "192.0.2.1:80", "[::]:80", "[2001:db8::1]:0"] {
                match (serve(bind, service, bearers), missing) {
                    (Ok(_), None) => {}
                    (Err(error @ ConfigError::OpenBind { .. }), Some(missing)) => {
                        let message = error.to_string();
                        assert!(message.contains(&format!("set {missing} (")), "{message}");
                        assert!(message.contains("ARENA_BIND"), "{message}");
                    }
                    (result, _) => panic!("{bind} {service:?} {bearers:?}: {result:?}"),
                }
            }
        };
        check(Some(LONG_ENOUGH), Some(LONG_ENOUGH), None);
        check(None, Some(LONG_ENOUGH), Some("INTERNAL_SERVICE_TOKEN"));
        check(Some(LONG_ENOUGH), None, Some("API_BEARER_TOKENS"));
        check(None, None, Some("INTERNAL_SERVICE_TOKEN and API_BEARER_TOKENS"));
    }

    #[test]
    fn on_loopback_a_token_that_is_not_set_is_made() {
        for bind in ["127.0.0.1:0", "127.1.2.3:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            let config = serve(bind, None, Some(LONG_ENOUGH)).unwrap();
            assert_eq!(config.minted.names(), ["INTERNAL_SERVICE_TOKEN"], "{bind}");
            assert!(config.tokens.accepts_bearer(LONG_ENOUGH));
        }
    }

    #[test]
    fn the_configuration_shows_no_token_in_debug() {
        let config = serve("0.0.0.0:80", Some(LONG_ENOUGH), Some(LONG_ENOUGH)).unwrap();
        assert!(!format!("{config:?}").contains(LONG_ENOUGH));
    }

    #[test]
    fn spans_need_a_unit_and_have_bounds() {
        let interval = |text| interval(text, "backtests-interval", "BACKTESTS_INTERVAL");
        assert_eq!(interval("15s"), Ok(Duration::from_secs(15)));
        assert_eq!(interval("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(wait("0s"), Ok(Duration::ZERO));
        for wrong in ["", "15", "0s", "-1s", "soon", "99999999years"] {
            let message = interval(wrong).unwrap_err();
            assert!(message.contains("BACKTESTS_INTERVAL"), "{wrong}: {message}");
        }
        assert!(lease("10ms").is_err());
        assert_eq!(kept("45d"), Ok(45 * DAY));
        assert!(kept("23h").is_err());
    }

    #[test]
    fn a_venue_has_an_address_of_its_kind() {
        assert_eq!(http_url("http://127.0.0.1:80/"), Ok("http://127.0.0.1:80".to_owned()));
        assert_eq!(ws_url("wss://venue/ws"), Ok("wss://venue/ws".to_owned()));
        for wrong in
            ["", "venue", "ftp://venue", "wss://venue", "http://", "http:///x", "http://a b"]
        {
            let message = http_url(wrong).unwrap_err();
            assert!(message.contains("https:// or http://"), "{wrong}: {message}");
        }
        assert!(ws_url("https://venue").is_err());
        assert!(http_url("https://me:secret@venue").is_err());
    }

    #[test]
    fn a_database_address_is_shown_without_its_password() {
        let check = |url: &str, shown: &str| {
            let url: DatabaseUrl = url.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert!(!format!("{url:?}").contains("hunter2"));
        };
        check("postgres://me:hunter2@db:5432/arena", "postgres://…@db:5432/arena");
        check("postgres://me:hunter2@@db/arena", "postgres://…@db/arena");
        check("sqlite://arena.db", "sqlite://arena.db");
    }
}
