//! Access tokens: read, checked, and from then on kept only as digests.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use uuid::Uuid;

use crate::config::{ConfigError, Environment};

/// The variable of the token that services send as `X-Service-Token`.
pub const INTERNAL_SERVICE_TOKEN: &str = "INTERNAL_SERVICE_TOKEN";
/// The variable of the tokens that clients send as `Authorization: Bearer`, comma-separated.
pub const API_BEARER_TOKENS: &str = "API_BEARER_TOKENS";

const SHORTEST: usize = 16;
const EXPECTED: &str = "16 or more printable ASCII characters without spaces or commas";

/// A value that must not be shown: Debug hides it, and there is no Display.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The value itself. Only for showing a token that was just made to its owner.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    fn checked(
        name: &'static str,
        position: Option<usize>,
        token: &str,
    ) -> Result<Self, ConfigError> {
        let which = position.map(|n| format!("entry {n} ")).unwrap_or_default();
        let wrong = |problem| ConfigError::Token { name, problem, expected: EXPECTED };
        if let Some(at) = token.chars().position(|c| !c.is_ascii_graphic() || c == ',') {
            let at = at + 1;
            return Err(wrong(format!("{which}has an unusable character at position {at}")));
        }
        if token.len() < SHORTEST {
            return Err(wrong(format!("{which}has {} characters", token.len())));
        }
        Ok(Self(token.to_owned()))
    }

    /// 244 random bits from the operating system, as 64 hexadecimal digits.
    fn mint() -> Self {
        Self(format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The SHA-256 of a token: of one length for all tokens, so that a comparison tells nothing.
#[derive(Clone)]
struct TokenDigest([u8; 32]);

impl TokenDigest {
    fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }
}

/// The tokens that the HTTP interface accepts, as digests.
#[derive(Clone)]
pub struct Tokens {
    service: TokenDigest,
    bearers: Vec<TokenDigest>,
}

impl Tokens {
    /// Reads both variables; a token that is not set is made.
    ///
    /// # Errors
    /// [`ConfigError::Token`] for a token that is too short or cannot stand in a header.
    pub fn read(environment: Environment<'_>) -> Result<(Self, Minted), ConfigError> {
        let mut minted = Minted { service: None, bearer: None };
        let service = match environment(INTERNAL_SERVICE_TOKEN)? {
            Some(token) => Secret::checked(INTERNAL_SERVICE_TOKEN, None, token.trim())?,
            None => minted.service.insert(Secret::mint()).clone(),
        };
        let bearers = match environment(API_BEARER_TOKENS)? {
            Some(list) => list
                .split(',')
                .zip(1..)
                .map(|(token, n)| Secret::checked(API_BEARER_TOKENS, Some(n), token.trim()))
                .collect::<Result<_, _>>()?,
            None => vec![minted.bearer.insert(Secret::mint()).clone()],
        };
        let tokens = Self {
            service: TokenDigest::of(&service.0),
            bearers: bearers.iter().map(|token| TokenDigest::of(&token.0)).collect(),
        };
        Ok((tokens, minted))
    }

    /// Whether this is the service token. Takes the same time for every wrong token of a length.
    #[must_use]
    pub fn accepts_service(&self, token: &str) -> bool {
        TokenDigest::of(token).0.ct_eq(&self.service.0).into()
    }

    /// Whether this is one of the bearer tokens. Compares with all of them, whichever matches.
    #[must_use]
    pub fn accepts_bearer(&self, token: &str) -> bool {
        let digest = TokenDigest::of(token);
        self.bearers
            .iter()
            .fold(Choice::from(0), |accepted, bearer| accepted | digest.0.ct_eq(&bearer.0))
            .into()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("bearers", &self.bearers.len()).finish_non_exhaustive()
    }
}

/// Tokens that were made because none were set. Shown to the operator once, then dropped.
#[derive(Debug)]
pub struct Minted {
    /// The service token, if it was made.
    pub service: Option<Secret>,
    /// The bearer token, if it was made.
    pub bearer: Option<Secret>,
}

impl Minted {
    /// Whether both were set, and none was made.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.service.is_none() && self.bearer.is_none()
    }

    /// The variables that were not set.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        self.entries().map(|(name, _)| name).collect()
    }

    /// Each variable that was not set, with the token that was made for it.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, &Secret)> {
        let service = self.service.iter().map(|token| (INTERNAL_SERVICE_TOKEN, token));
        service.chain(self.bearer.iter().map(|token| (API_BEARER_TOKENS, token)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str = "service-token-0123";
    const FIRST: &str = "first-bearer-0123";
    const SECOND: &str = "second-bearer-0123";

    fn read(service: Option<&str>, bearers: Option<&str>) -> Result<(Tokens, Minted), ConfigError> {
        Tokens::read(&|name| {
            let value = if name == INTERNAL_SERVICE_TOKEN { service } else { bearers };
            Ok(value.map(str::to_owned))
        })
    }

    #[test]
    fn only_the_whole_token_of_the_right_kind_is_accepted() {
        let (tokens, minted) =
            read(Some(SERVICE), Some("first-bearer-0123, second-bearer-0123")).unwrap();
        assert!(minted.is_empty());
        assert!(tokens.accepts_service(SERVICE));
        assert!(tokens.accepts_bearer(FIRST));
        assert!(tokens.accepts_bearer(SECOND));
        for wrong in ["", FIRST, "service-token-012", "service-token-01234", "SERVICE-TOKEN-0123"] {
            assert!(!tokens.accepts_service(wrong), "{wrong}");
        }
        let both = format!("{FIRST},{SECOND}");
        for wrong in ["", SERVICE, "first-bearer-012", "first-bearer-0123 ", &both] {
            assert!(!tokens.accepts_bearer(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_made_token_is_long_and_accepted_and_differs_each_time() {
        let (tokens, minted) = read(None, None).unwrap();
        let (_, again) = read(None, None).unwrap();
        let service = minted.service.unwrap();
        assert_eq!(service.reveal().len(), 64);
        assert!(tokens.accepts_service(service.reveal()));
        assert!(tokens.accepts_bearer(minted.bearer.unwrap().reveal()));
        assert_ne!(service.reveal(), again.service.unwrap().reveal());
    }

    #[test]
    fn a_token_that_cannot_be_used_is_refused_without_showing_it() {
        let check = |service: Option<&str>, bearers: Option<&str>, expected: &str| {
            let message = read(service, bearers).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
            assert!(!message.contains("hunter"), "{message}");
        };
        check(Some("hunter2"), None, "INTERNAL_SERVICE_TOKEN: has 7 characters; expected 16");
        check(
            Some("hunter2 hunter2 hunter2"),
            None,
            "INTERNAL_SERVICE_TOKEN: has an unusable character at position 8",
        );
        check(
            None,
            Some("first-bearer-0123,hunter2"),
            "API_BEARER_TOKENS: entry 2 has 7 characters",
        );
        check(None, Some("first-bearer-0123,"), "API_BEARER_TOKENS: entry 2 has 0 characters");
        check(
            None,
            Some("hunter2-hunter2-hünter2"),
            "API_BEARER_TOKENS: entry 1 has an unusable character",
        );
    }

    #[test]
    fn debug_shows_no_token() {
        let (tokens, minted) = read(None, Some(FIRST)).unwrap();
        let shown = format!("{tokens:?} {minted:?}");
        assert!(!shown.contains(FIRST), "{shown}");
        assert!(!shown.contains(minted.service.unwrap().reveal()), "{shown}");
    }
}
