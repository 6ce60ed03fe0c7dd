//! Small writes, one after the other, as many as go until the stop: what became of them and how long
//! the slowest took is said at the end.

use std::time::{Duration, Instant};

use scheduler_core::{Shutdown, Store, StoreError};
use sea_orm::ConnectionTrait;

use crate::script::say;

pub(crate) async fn write(store: &Store, shutdown: &Shutdown) {
    say("writing");
    let (mut kept, mut longest) = (0, Duration::ZERO);
    let mut refused = Vec::new();
    while !shutdown.stop.is_cancelled() {
        let asked = Instant::now();
        let written = store.write("note", |txn| {
            Box::pin(async move {
                let noted = txn.execute_unprepared("INSERT INTO effects (slot) VALUES (1)").await;
                noted.map_err(|source| StoreError::database("note", source))
            })
        });
        match written.await {
            Ok(_) => kept += 1,
            Err(error) => refused.push(error.to_string()),
        }
        longest = longest.max(asked.elapsed());
    }
    refused.dedup();
    say(&format!("wrote {kept} {} {}", longest.as_millis(), refused.join("; ")));
}
