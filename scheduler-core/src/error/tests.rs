use std::borrow::Cow;
use std::sync::Arc;

use sea_orm::sqlx::error::{DatabaseError, ErrorKind};

use super::*;

/// What a driver answers when the database refuses with this code.
#[derive(Debug)]
struct Refused(&'static str);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Refused {}

impl DatabaseError for Refused {
    fn message(&self) -> &str {
        self.0
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        Some(self.0.into())
    }

    fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

#[test]
fn what_passes_is_told_from_what_stays() {
    #[track_caller]
    fn check(code: &'static str, transient: bool, conflict: bool) {
        let refused = sqlx::Error::Database(Box::new(Refused(code)));
        let source = DbErr::Query(RuntimeErr::SqlxError(Arc::new(refused)));
        let error = StoreError::database("look", source);
        assert_eq!((error.is_transient(), error.is_conflict()), (transient, conflict), "{code}");
    }
    // SQLite: busy, its extensions, locked, full; a constraint stays.
    for code in ["5", "261", "517", "6", "262", "13"] {
        check(code, true, false);
    }
    check("8", false, false);
    check("1555", false, false);
    // A server: connections, what it is short of, stops and starts.
    for code in ["08006", "53300", "53100", "57P01", "57P02", "57P03"] {
        check(code, true, false);
    }
    check("40001", true, true);
    check("40P01", true, true);
    // Permission denied and an impossible character: their last byte is that of a busy SQLite.
    for code in ["42501", "22021", "23505", "42P01", "28P01"] {
        check(code, false, false);
    }
}

#[test]
fn a_broken_connection_passes_and_an_unanswered_question_too() {
    let io = sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
    let broken = DbErr::Exec(RuntimeErr::SqlxError(Arc::new(io)));
    assert!(StoreError::database("look", broken).is_transient());
    let silent = StoreError::NoAnswer { operation: "look", waited: Duration::from_secs(20) };
    assert!(silent.is_transient());
    assert_eq!(silent.to_string(), "could not look: the database server did not answer for 20s");
}
