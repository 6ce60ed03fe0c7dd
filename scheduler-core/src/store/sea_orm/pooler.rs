//! What is done about a pooler in transaction mode, where each transaction may run on another
//! connection of the server's: nothing may outlive a transaction.
//!
//! The driver prepares every statement that has parameters, under a name, in a round trip of its
//! own. So each read is a transaction, too, and each transaction begins by forgetting the names that
//! whoever had the server's connection before has left there.

use std::time::Duration;

use sea_orm::sqlx::{Executor, PgConnection};
use sea_orm::{ConnectOptions, ConnectionTrait, DatabaseTransaction, DbErr};
use tokio::time::timeout;

use crate::error::StoreError;

/// A pooler in transaction mode, in an address: `?pooler=transaction`.
const PARAMETER: &str = "pooler=";
const TRANSACTION: &str = "transaction";

/// How long a connection may take to begin or to end a read.
const SIGN_OF_LIFE: Duration = Duration::from_secs(3);

const BEGIN_READ: &str = "BEGIN; DEALLOCATE ALL";
const END_READ: &str = "ROLLBACK";
const FORGET: &str = "DEALLOCATE ALL";

/// The address as the driver knows it, and whether it leads through a pooler in transaction mode.
///
/// # Errors
/// [`StoreError::Url`] for a pooler of another kind.
pub(super) fn split_address(url: &str) -> Result<(String, bool), StoreError> {
    let Some((server, parameters)) = url.split_once('?') else {
        return Ok((url.to_owned(), false));
    };
    let (ours, theirs): (Vec<&str>, Vec<&str>) =
        parameters.split('&').partition(|parameter| parameter.starts_with(PARAMETER));
    if let Some(other) =
        ours.iter().map(|ours| &ours[PARAMETER.len()..]).find(|value| *value != TRANSACTION)
    {
        return Err(StoreError::Url {
            value: format!("…?{PARAMETER}{other}"),
            reason: format!("expected `{PARAMETER}{TRANSACTION}`, or no such parameter"),
        });
    }
    let mut address = server.to_owned();
    if !theirs.is_empty() {
        address.push('?');
        address.push_str(&theirs.join("&"));
    }
    Ok((address, !ours.is_empty()))
}

/// Nothing is kept for a statement that comes again, and nothing is asked for that a pooler refuses.
pub(super) fn keep_nothing(connect: &mut ConnectOptions) {
    connect.map_sqlx_postgres_opts(|options| {
        options.statement_cache_capacity(0).extra_float_digits(None)
    });
}

/// Makes every use of a connection one transaction, which is rolled back: for reads.
pub(super) fn read_in_transactions(connect: &mut ConnectOptions) {
    connect.test_before_acquire(false).map_sqlx_postgres_pool_opts(|pool| {
        pool.after_connect(|connection, _| {
            Box::pin(async move { connection.execute(BEGIN_READ).await.map(|_| ()) })
        })
        .before_acquire(|connection, _| {
            Box::pin(async move { Ok(done(connection, BEGIN_READ).await) })
        })
        .after_release(|connection, _| {
            Box::pin(async move { Ok(done(connection, END_READ).await) })
        })
    });
}

async fn done(connection: &mut PgConnection, sql: &'static str) -> bool {
    matches!(timeout(SIGN_OF_LIFE, connection.execute(sql)).await, Ok(Ok(_)))
}

/// The names that were left on the server's connection would be taken for this transaction's.
pub(super) async fn forget_statements(transaction: &DatabaseTransaction) -> Result<(), DbErr> {
    transaction.execute_unprepared(FORGET).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::split_address;

    #[test]
    fn an_address_says_whether_it_leads_through_a_pooler() {
        let server = "postgres://me@db:6432/arena";
        for (parameters, theirs, pooled) in [
            ("", "", false),
            ("?sslmode=require", "?sslmode=require", false),
            ("?pooler=transaction", "", true),
            ("?pooler=transaction&sslmode=require", "?sslmode=require", true),
            ("?host=/tmp&pooler=transaction&user=me", "?host=/tmp&user=me", true),
        ] {
            let split = split_address(&format!("{server}{parameters}")).unwrap();
            assert_eq!(split, (format!("{server}{theirs}"), pooled), "{parameters}");
        }
        let error = split_address("postgres://me:secret@db/arena?pooler=session").unwrap_err();
        let error = format!("{error} {error:?}");
        assert!(error.contains("pooler=session") && !error.contains("secret"), "{error}");
    }
}
