//! Several sets of the library's tables in one database, beside an embedder's own.

use std::collections::BTreeSet;
use std::time::Duration;

use scheduler_core::migration::{self, List, MigrateError};
use scheduler_core::queue::{JobQueue, NewJob, QueueTable};
use scheduler_core::store::{ClaimRequest, HeartbeatStore, InstanceStore, Namespace, WakeStore};
use scheduler_core::testing::{Rows, Runs};
use scheduler_core::{
    Cadence, InstanceId, JobContext, JobDefinition, RunSummary, Scheduler, Shutdown, StartPolicy,
    Store, StoreError,
};
use sea_orm::DbBackend;

use crate::harness::{Database, within};

on_every_store! {
    two_namespaces_of_one_database_do_not_see_each_other,
    every_table_and_every_index_is_in_its_namespace,
    a_wake_is_heard_in_its_own_namespace,
}

/// The bare names, a prefix, and a schema where there are any.
async fn namespaces(database: &Database) -> Vec<Namespace> {
    let mut namespaces = vec![Namespace::default(), Namespace::prefix("sched_").expect("a prefix")];
    if database.backend() == DbBackend::Postgres {
        namespaces.push(Namespace::schema("sched").expect("a schema"));
    }
    let lists: Vec<List> = namespaces.iter().map(List::scheduler).collect();
    migration::up(database.store.reader(), &lists).await.expect("all of them in one go");
    let status = migration::status(database.store.reader(), &lists).await.expect("read");
    assert!(status.is_current(), "{status:?}");
    namespaces
}

fn stores(database: &Database, namespaces: &[Namespace]) -> Vec<Store> {
    let store = |namespace: &Namespace| database.store.in_namespace(namespace.clone());
    namespaces.iter().map(|namespace| store(namespace).expect("a namespace")).collect()
}

async fn two_namespaces_of_one_database_do_not_see_each_other(database: Database) {
    let stores = stores(&database, &namespaces(&database).await);
    for (number, store) in stores.iter().enumerate() {
        let mut scheduler = Scheduler::new(store.clone());
        let mark = JobDefinition {
            start: StartPolicy::NextSlot,
            ..JobDefinition::new("mark", Cadence::every(Duration::from_secs(60)))
        };
        scheduler
            .register(mark, move |_: JobContext| async move {
                Ok(RunSummary::new().detail("number", number))
            })
            .expect("registered");
        let run = scheduler.run_once("mark", Duration::ZERO, &Shutdown::default()).await;
        run.expect("its lease is free, whoever holds that of the others");
        let queue = JobQueue::new(store, "mails").expect("a queue");
        for _ in 0..=number {
            queue.enqueue(&[NewJob::new("mail", &number).expect("a job")]).await.expect("enqueued");
        }
        queue.control().set_paused(number == 1).await.expect("said");
    }
    for (number, store) in stores.iter().enumerate() {
        let runs = Runs::of(store, "mark").await.expect("read");
        let summaries: Vec<_> = runs.rows().iter().map(|run| run.summary.clone()).collect();
        assert_eq!(summaries.len(), 1, "{number}: {summaries:?}");
        assert_eq!(summaries[0].as_ref().expect("a summary")["number"], number);
        let rows = Rows::of(store, "jobs:mails").await.expect("read");
        assert_eq!(rows.rows().len(), number + 1);
        let queue = store.open_queue(QueueTable::jobs("mails")).await.expect("a queue");
        let request =
            ClaimRequest { holder: InstanceId::new(), lease_ms: 30_000, limit: 10, idle: true };
        let claimed = queue.claim(&request).await.expect("claimed").rows.len();
        assert_eq!(claimed, if number == 1 { 0 } else { number + 1 }, "one of them is paused");
        assert_eq!(store.health().await.expect("read").workers.len(), 1);
    }
    database.clock.advance(Duration::from_secs(90 * 24 * 60 * 60));
    assert!(stores[0].prune(1_000).await.expect("pruned") > 0);
    for (number, store) in stores.iter().enumerate() {
        let left = Runs::of(store, "mark").await.expect("read").rows().len();
        assert_eq!(left, usize::from(number > 0), "{number}");
    }
}

async fn every_table_and_every_index_is_in_its_namespace(database: Database) {
    database.execute("DROP TABLE jobs").await;
    // An embedder's own, with the name of one of the library's.
    database.execute("CREATE TABLE jobs (id BIGINT PRIMARY KEY, title TEXT NOT NULL)").await;
    let before = names(&database).await;
    let namespace = Namespace::prefix("sched_").expect("a prefix");
    let applied = migration::up(database.store.reader(), &[List::scheduler(&namespace)]).await;
    let applied = applied.expect("applied");
    assert!(applied.iter().all(|one| one.list == "sched_scheduler_migrations"), "{applied:?}");
    let after = names(&database).await;
    let new: Vec<_> = after.difference(&before).collect();
    assert!(new.len() > 15, "{new:?}");
    let foreign: Vec<_> = new.iter().filter(|name| !name.starts_with("sched_")).collect();
    assert_eq!(foreign, Vec::<&&String>::new());
    let again = migration::up(database.store.reader(), &[List::scheduler(&namespace)]).await;
    assert_eq!(again.expect("nothing to do"), []);

    let store = database.store.in_namespace(namespace).expect("a namespace");
    JobQueue::new(&store, "mails")
        .expect("a queue")
        .enqueue(&[NewJob::new("mail", &1).expect("a job")])
        .await
        .expect("into the library's table");
    assert_eq!(database.value::<i64>("SELECT count(*) FROM jobs").await, 0);
}

/// Tables and indexes; those that the database itself makes have names of its own.
async fn names(database: &Database) -> BTreeSet<String> {
    let names = match database.backend() {
        DbBackend::Postgres => {
            "SELECT relname FROM pg_catalog.pg_class WHERE relkind IN ('r', 'i') AND relnamespace = current_schema()::regnamespace"
        }
        _ => "SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'",
    };
    database.lines(names).await.into_iter().collect()
}

async fn a_wake_is_heard_in_its_own_namespace(database: Database) {
    let namespaces = namespaces(&database).await;
    let theirs = stores(&database, &namespaces);
    let other = database.another_store().await;
    let topic = JobQueue::new(&other, "mails").expect("a queue").topic();
    for (namespace, store) in namespaces.iter().zip(&theirs) {
        let mut news = store.changes(&topic);
        // The listener tells once that it listens.
        news.changed().await;
        let teller = other.in_namespace(namespace.clone()).expect("a namespace");
        let heard = within(Duration::from_secs(60), async || {
            let queue = JobQueue::new(&teller, "mails").expect("a queue");
            queue.enqueue(&[NewJob::new("mail", &1).expect("a job")]).await.expect("enqueued");
            tokio::time::timeout(Duration::from_millis(500), news.changed()).await.is_ok()
        });
        assert!(heard.await, "{namespace:?}");
    }
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn what_one_namespace_tells_is_no_news_to_another_on_a_server() {
    use scheduler_core::store::ScheduleControl as _;

    let Some(database) = Database::new_on_postgres().await else { return };
    let namespaces = namespaces(&database).await;
    let stores = stores(&database, &namespaces);
    let other = database.another_store().await;
    let topic = scheduler_core::store::Topic::Schedules;
    let mut news: Vec<_> = stores.iter().map(|store| store.changes(&topic)).collect();
    for news in &mut news {
        news.changed().await;
    }
    for told in 0..namespaces.len() {
        let teller = other.in_namespace(namespaces[told].clone()).expect("a namespace");
        // Nobody has such a job; that it was looked for is told all the same.
        assert!(!teller.set_paused("nothing", true).await.expect("looked for"));
        news[told].changed().await;
        for (number, news) in news.iter_mut().enumerate() {
            use futures_util::FutureExt;
            assert_eq!(news.changed().now_or_never(), None, "{told} told, {number} heard");
        }
    }
}

/// What a role without the right to create schemas needs of its administrator is the schema alone.
#[cfg(feature = "postgres")]
#[tokio::test]
async fn a_schema_is_created_once_and_the_search_path_is_left_as_it_was() {
    let Some(database) = Database::empty_on_postgres().await else { return };
    let namespace = Namespace::schema("sched").expect("a schema");
    database.execute("CREATE SCHEMA sched").await;
    let lists = [List::scheduler(&namespace), List::of::<migration::SchedulerMigrator>()];
    let status = migration::status(database.store.reader(), &lists).await.expect("read");
    assert_eq!(status.pending().len(), 2 * status.lists[0].pending.len());
    let applied = migration::up(database.store.reader(), &lists).await.expect("applied");
    assert_eq!(applied.first().expect("some").list, "sched.scheduler_migrations");
    for schema in ["sched", "public"] {
        let tables = format!(
            "SELECT count(*) FROM pg_catalog.pg_tables WHERE schemaname = '{schema}' AND tablename IN ('job_runs', 'scheduler_migrations')"
        );
        assert_eq!(database.value::<i64>(&tables).await, 2, "{schema}");
    }
    let both = [List::scheduler(&namespace), List::scheduler(&namespace)];
    let shared = migration::up(database.store.reader(), &both).await.expect_err("one history");
    assert!(matches!(shared, MigrateError::SharedHistory { .. }), "{shared}");
}

#[tokio::test]
async fn sqlite_says_that_it_has_no_schemas() {
    let database = Database::empty().await;
    let namespace = Namespace::schema("sched").expect("a schema");
    let refused = database.store.in_namespace(namespace.clone()).expect_err("none");
    assert!(matches!(refused, StoreError::Unsupported { .. }), "{refused}");
    assert!(refused.to_string().contains("use a prefix"), "{refused}");
    let lists = [List::scheduler(&namespace)];
    for refused in [
        migration::up(database.store.reader(), &lists).await.map(|_| ()),
        migration::status(database.store.reader(), &lists).await.map(|_| ()),
    ] {
        let refused = refused.expect_err("none");
        assert!(
            matches!(refused, MigrateError::Store(StoreError::Unsupported { .. })),
            "{refused}"
        );
    }
}
