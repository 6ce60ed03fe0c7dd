//! NOTIFY and LISTEN: few notifications for many wakes, none before its commit, and listeners that
//! come back when their server does.

use std::time::Duration;

use scheduler_core::Store;
use scheduler_core::queue::QueueWaker;
use scheduler_core::store::{Changes, Topic, WakeStore};
use sea_orm::ConnectionTrait;
use sea_orm::sqlx::postgres::PgListener;

use crate::postgres::new_database;
use crate::postgres::server::{PrivateServer, Programs, Stop};

const PATIENCE: Duration = Duration::from_secs(90);
const WAKES: usize = 1_000;

fn parcels() -> Topic {
    Topic::Queue("parcels".to_owned())
}

async fn heard(news: &mut Changes, what: &str) {
    let heard = tokio::time::timeout(PATIENCE, news.changed()).await;
    assert!(heard.is_ok(), "waited in vain for news: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_wakes_at_once_are_few_notifications_and_a_close_sends_the_last() {
    let Some(url) = new_database().await else { return };
    let mut ear = PgListener::connect(&url).await.expect("a listener");
    ear.listen("scheduler_core").await.expect("listening");
    let store = Store::postgres(&url).await.expect("opens");
    let waker = QueueWaker::new(store.clone(), "parcels");
    for _ in 0..WAKES {
        waker.wake();
    }
    store.wake(&Topic::Schedules);
    store.close().await.expect("closed");
    let (mut of_parcels, mut of_schedules) = (0, 0);
    // What one transaction tells comes in no order of its own.
    while of_schedules == 0 || of_parcels == 0 {
        let told = tokio::time::timeout(PATIENCE, ear.recv()).await.expect("told").expect("heard");
        match told.payload().split(' ').next() {
            Some("queue:parcels") => of_parcels += 1,
            Some("schedules") => of_schedules += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!((1..10).contains(&of_parcels), "{WAKES} wakes were {of_parcels} notifications");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_person_tells_is_heard_and_so_is_what_nobody_understands() {
    let Some(url) = new_database().await else { return };
    let store = Store::postgres(&url).await.expect("opens");
    let mut news = store.changes(&Topic::Schedules);
    heard(&mut news, "the beginning").await;
    for payload in ["schedules", "", "a word of a later version"] {
        let notify = format!("NOTIFY scheduler_core, '{payload}'");
        store.reader().execute_unprepared(&notify).await.expect("told");
        heard(&mut news, payload).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_comes_back_with_its_server() {
    let Some(programs) = Programs::find() else { return };
    let mut server = PrivateServer::new(programs, &["fsync=off"]);
    server.answers().await;
    let url = server.url("postgres");
    let (store, other) =
        (Store::postgres(&url).await.expect("opens"), Store::postgres(&url).await.expect("opens"));
    let mut news = store.changes(&parcels());
    heard(&mut news, "the beginning").await;
    for stop in [Stop::Fast, Stop::Immediate] {
        other.wake(&parcels());
        heard(&mut news, "before the stop").await;
        server.stop(stop);
        server.start();
        server.answers().await;
        // What changed while nobody could be told is news, too.
        heard(&mut news, "after the start").await;
    }
    other.wake(&parcels());
    heard(&mut news, "at the end").await;
}
