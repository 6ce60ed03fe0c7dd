//! `cargo run -p examples --example in_axum`
//!
//! An axum service on a connection of its own: a handler writes an order and enqueues the mail about it in
//! one transaction, and the same process sends it and counts orders. Its server stops first, so that what
//! the last request enqueued is still worked on.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use async_trait::async_trait;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use scheduler_core::migration::{self, List, SchedulerMigrator};
use scheduler_core::queue::{
    Consumer, ConsumerOptions, EnqueueError, HandleError, Handled, Handler, JobQueue, JobRow,
    NewJob, QueueContext, QueueTable,
};
use scheduler_core::{
    Cadence, JobContext, JobDefinition, RunSummary, Scheduler, Shutdown, Store, StoreError,
};
use sea_orm::{ConnectionTrait, Database, DatabaseTransaction, Statement};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

#[derive(Clone)]
struct Shop {
    store: Store,
    mails: JobQueue,
}

async fn place_order(
    State(shop): State<Shop>,
    Json(order): Json<Value>,
) -> Result<Json<Value>, (StatusCode, String)> {
    let recipient = order["recipient"].as_str().unwrap_or_default().to_owned();
    let refuse = |error: EnqueueError| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    let mail = NewJob::new("confirm_order", &recipient).map_err(refuse)?;
    let mails = shop.mails.clone();
    let placed = shop.store.write("place an order", |txn| {
        Box::pin(async move {
            insert_order(txn, &recipient).await?;
            mails.enqueue_in(txn, &[mail]).await
        })
    });
    let receipt = placed.await.map_err(refuse)?;
    receipt.wake.send(); // After the commit. Forgotten, the safety poll finds the row.
    Ok(Json(json!({ "mail": receipt.rows[0].id() })))
}

struct Mailer {
    sent: mpsc::Sender<i64>,
}

#[async_trait]
impl Handler for Mailer {
    type Row = JobRow;

    async fn handle(&self, row: JobRow, _: QueueContext) -> Result<Handled, HandleError> {
        let recipient: String = row.payload().map_err(HandleError::permanent)?;
        println!("mail {} to {recipient}", row.id);
        self.sent.send(row.id).await?;
        Ok(Handled::Done(None))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // The service has its pool, its tables and its migrations; the library's stand beside them.
    let database = Database::connect("sqlite::memory:").await?;
    let orders = "CREATE TABLE orders (id INTEGER PRIMARY KEY, recipient TEXT NOT NULL)";
    database.execute_unprepared(orders).await?;
    migration::up(&database, &[List::of::<SchedulerMigrator>()]).await?;
    let store = Store::from_connection(database);

    let mut scheduler = Scheduler::new(store.clone());
    let (counted, mut counts) = mpsc::channel(10);
    let reader = store.clone();
    scheduler.register(
        JobDefinition::new("count_orders", Cadence::every(Duration::from_secs(1))),
        move |_: JobContext| {
            let (reader, counted) = (reader.clone(), counted.clone());
            async move {
                let orders = count_orders(&reader).await?;
                counted.send(orders).await?;
                Ok(RunSummary::new().count("orders", orders.unsigned_abs()))
            }
        },
    )?;
    let (sent, mut mails_sent) = mpsc::channel(10);
    let (table, options) = (QueueTable::jobs("mails"), ConsumerOptions::new("mailer"));
    Consumer::new(&store, table, options, Mailer { sent }).await?.register(&mut scheduler)?;
    let running = scheduler.start().await?;

    let mails = JobQueue::new(&store, "mails")?;
    let app = Router::new().route("/orders", post(place_order)).with_state(Shop { store, mails });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let server = axum::serve(listener, app).with_graceful_shutdown(async move {
        let _ = stopped.await; // A service waits for a signal here.
    });
    let server = tokio::spawn(server.into_future());

    println!("{}", order_from(address).await?);
    mails_sent.recv().await;
    while counts.recv().await.is_some_and(|orders| orders == 0) {}

    let _ = stop.send(());
    server.await??;
    running.stop(&Shutdown::default()).await;
    Ok(())
}

async fn insert_order(txn: &DatabaseTransaction, recipient: &str) -> Result<(), StoreError> {
    const INSERT: &str = "INSERT INTO orders (recipient) VALUES ($1)";
    let values = [recipient.into()];
    let insert = Statement::from_sql_and_values(txn.get_database_backend(), INSERT, values);
    let inserted = txn.execute_raw(insert).await;
    inserted.map(|_| ()).map_err(|source| StoreError::database("insert an order", source))
}

async fn count_orders(store: &Store) -> anyhow::Result<i64> {
    const COUNT: &str = "SELECT count(*) AS orders FROM orders";
    let count = Statement::from_string(store.reader().get_database_backend(), COUNT);
    let row = store.reader().query_one_raw(count).await?;
    Ok(row.map_or(Ok(0), |row| row.try_get("", "orders"))?)
}

/// What a customer's browser does.
async fn order_from(address: std::net::SocketAddr) -> anyhow::Result<String> {
    let body = json!({ "recipient": "ada@example.org" }).to_string();
    let request = format!(
        "POST /orders HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer.lines().next().unwrap_or_default();
    let body = answer.lines().last().unwrap_or_default();
    anyhow::ensure!(status.contains("200"), "{answer}");
    Ok(format!("{status}: {body}"))
}
