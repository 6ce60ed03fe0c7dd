//! Who is measured, on what, and by which program.

use crate::arguments::Database;

/// A queue or a clock on one database.
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    pub(crate) database: Database,
    /// The folder beside this package whose program measures it.
    pub(crate) folder: &'static str,
    /// How many jobs wait at most when a drain begins.
    pub(crate) at_most: u32,
    /// Whether it enqueues many rows in one call.
    pub(crate) has_bulk: bool,
    /// Whether an idle worker's pickup is measured: the raw limit has none, and fang's looks every five
    /// seconds and more.
    pub(crate) waits: bool,
    /// How it was set.
    pub(crate) settings: &'static str,
}

const PEER: Spec = Spec {
    name: "",
    database: Database::Sqlite,
    folder: "sqlx-0.9",
    at_most: u32::MAX,
    has_bulk: true,
    waits: true,
    settings: "",
};

pub(crate) const PEERS: &[Spec] = &[
    Spec {
        name: "raw",
        waits: false,
        settings: "sqlx, one connection, WAL, synchronous=FULL; drain: claim 100, mark 100",
        ..PEER
    },
    Spec {
        name: "scheduler-core",
        settings: "defaults: WAL, synchronous=FULL, group commit",
        ..PEER
    },
    Spec {
        name: "effectum",
        folder: "effectum",
        settings: "file made WAL beforehand, synchronous=NORMAL",
        ..PEER
    },
    Spec {
        name: "apalis-sqlite",
        at_most: 5_000,
        settings: "setup(): WAL, synchronous=OFF on one connection of its pool, FULL on the others; update hook and poll each 500 ms, batch_size = concurrency",
        ..PEER
    },
    Spec {
        name: "raw",
        database: Database::Postgres,
        waits: false,
        settings: "sqlx, 16 connections; drain: 8 tasks claim 100, mark 100",
        ..PEER
    },
    Spec {
        name: "scheduler-core",
        database: Database::Postgres,
        settings: "defaults: shared enqueues, NOTIFY after commit",
        ..PEER
    },
    Spec {
        name: "graphile_worker",
        database: Database::Postgres,
        settings: "local queue of 500, completions batched for 5 ms, 20 connections",
        ..PEER
    },
    Spec {
        name: "apalis-postgres",
        database: Database::Postgres,
        at_most: 20_000,
        settings: "pubsub and poll each 500 ms, batch_size = concurrency, 20 connections",
        ..PEER
    },
    Spec {
        name: "fang",
        database: Database::Postgres,
        folder: "sqlx-0.8",
        at_most: 4_000,
        has_bulk: false,
        waits: false,
        settings: "defaults, 20 connections; it has no bulk enqueue, and polls each 5 s and more",
    },
    Spec {
        name: "underway",
        database: Database::Postgres,
        folder: "sqlx-0.8",
        at_most: 4_000,
        settings: "defaults, 60 connections",
        ..PEER
    },
    Spec {
        name: "scheduler-core",
        database: Database::None,
        settings: "History::None, memory store, `* * * * * *`",
        ..PEER
    },
    Spec {
        name: "tokio-cron-scheduler",
        database: Database::None,
        settings: "asynchronous jobs, `* * * * * *`",
        ..PEER
    },
    Spec {
        name: "apalis-cron",
        database: Database::None,
        settings: "a worker per job, `* * * * * *`",
        ..PEER
    },
];

/// The names that `--peers` knows.
pub(crate) fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = PEERS.iter().map(|spec| spec.name).collect();
    names.sort_unstable();
    names.dedup();
    names
}
