//! Writers of a server: the pool and the server order them, no gate of this process does.

use std::time::Duration;

use scheduler_core::{PostgresOptions, Store, StoreError};
use tokio::sync::oneshot;

use super::Pair;

#[tokio::test]
async fn a_write_waits_for_a_connection_as_long_as_the_pool_says() {
    let Some(fixture) = Pair::postgres().await else { return };
    let options = PostgresOptions {
        connections: 2,
        acquire_timeout: Duration::from_secs(20),
        ..PostgresOptions::default()
    };
    let clock = std::sync::Arc::new(fixture.database.clock.clone());
    let store = Store::postgres_with(&fixture.database.url(), options, clock).await.expect("open");
    let mut let_go = Vec::new();
    for _ in 0..2 {
        let (inside, entered) = oneshot::channel();
        let (sender, told) = oneshot::channel::<()>();
        let_go.push(sender);
        let store = store.clone();
        tokio::spawn(async move {
            let held = store.write("hold a connection", |_| {
                Box::pin(async move {
                    let _ = inside.send(());
                    let _ = told.await;
                    Ok::<_, StoreError>(())
                })
            });
            held.await.expect("committed");
        });
        entered.await.expect("inside, both at once");
    }
    let mut third = std::pin::pin!(
        store.write("wait for one", |_| Box::pin(async { Ok::<_, StoreError>(()) }))
    );
    // Longer than a write on a SQLite file may wait for its turn.
    let early = tokio::time::timeout(Duration::from_millis(2_500), &mut third).await;
    assert!(early.is_err(), "{early:?}");
    drop(let_go);
    third.await.expect("its turn came");
}
