//! What is true of a PostgreSQL server only: hosts with clocks of their own, servers that stop, start
//! and go silent, the order in which rows are locked, TLS, notifications, and a pooler in between.

#[cfg(feature = "postgres")]
mod leftovers;

#[cfg(feature = "postgres")]
mod order;

#[cfg(feature = "postgres")]
mod pooler;

#[cfg(feature = "postgres")]
#[path = "../it/postgres.rs"]
mod postgres;

#[cfg(feature = "postgres")]
mod restart;

#[cfg(feature = "postgres")]
mod silence;

#[cfg(feature = "postgres")]
mod skew;

#[cfg(feature = "postgres")]
mod tls;

#[cfg(feature = "postgres")]
mod wakes;

#[cfg(not(feature = "postgres"))]
#[test]
fn without_the_feature_nothing_runs_and_one_line_says_so() {
    use std::io::Write;

    let what = "PostgreSQL tests were not built: \
                run `cargo test -p tests --features tests/postgres`";
    // Not `eprintln`, which the test harness keeps to itself.
    writeln!(std::io::stderr(), "{what}").expect("standard error");
}
