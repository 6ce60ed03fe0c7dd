//! What the contracts run on: a store in memory, and two connections to one SQL database.

use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use scheduler_core::queue::{QueueTable, RowId};
use scheduler_core::store::{Namespace, QueueControl, QueueRows, SchedulerStore};
use scheduler_core::testing::contract::{
    Fixture, NOON, NewRow, QUEUE, QueueFixture, RowEdit, SqlFixture,
};
use scheduler_core::testing::{JobEdit, ManualClock, MemoryStore, QueueRow, RunRow};
use scheduler_core::{Store, StoreError};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, QueryResult, TryGetable};

use crate::courier::create_parcels;
use crate::harness::Database;

/// Two handles on one memory.
pub(super) struct InMemory {
    store: MemoryStore,
    other: MemoryStore,
    clock: ManualClock,
}

impl InMemory {
    pub(super) fn empty() -> Self {
        let clock = ManualClock::at(NOON);
        let store = MemoryStore::new(Arc::new(clock.clone()));
        Self { other: store.clone(), store, clock }
    }
}

#[async_trait]
impl Fixture for InMemory {
    fn store(&self) -> &dyn SchedulerStore {
        &self.store
    }

    fn other(&self) -> &dyn SchedulerStore {
        &self.other
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    async fn runs(&self, job: &str) -> Vec<RunRow> {
        self.other.runs(job).await
    }

    async fn everything(&self) -> Vec<String> {
        self.other.everything().await
    }

    async fn edit(&self, edit: JobEdit) {
        assert!(self.other.edit(&edit).await, "{edit:?}");
    }
}

#[async_trait]
impl QueueFixture for InMemory {
    async fn open(&self, table: QueueTable) -> (Arc<dyn QueueRows>, Arc<dyn QueueRows>) {
        let other = self.other.open_queue(table.clone()).expect("a queue");
        (self.store.open_queue(table).expect("a queue"), other)
    }

    async fn enqueue(&self, rows: &[NewRow]) {
        for row in rows {
            let id = 1 + self.store.rows(QUEUE).await.len() as i64;
            let mut queued = QueueRow::queued(RowId::Int(id));
            (queued.priority, queued.run_at_ms) = (row.priority, row.run_at_ms);
            queued.columns.insert("label".into(), row.label.clone().into());
            queued.columns.insert("user_id".into(), row.user_id.into());
            self.store.put_row(QUEUE, queued).await;
        }
    }

    async fn queue_rows(&self) -> Vec<QueueRow> {
        self.other.rows(QUEUE).await
    }

    async fn edit_row(&self, id: i64, edit: RowEdit) {
        let rows = self.store.rows(QUEUE).await;
        let mut row = rows.into_iter().find(|row| row.id == RowId::Int(id)).expect("a row");
        match edit {
            RowEdit::Cancel => row.cancel_requested = true,
            RowEdit::Crashes(crashes) => row.crash_count = crashes,
            RowEdit::NotStarted => row.started = false,
        }
        self.store.put_row(QUEUE, row).await;
    }

    async fn open_jobs(&self, table: QueueTable) -> (Arc<dyn QueueRows>, Arc<dyn QueueRows>) {
        self.open(table).await
    }

    async fn control(&self, table: QueueTable) -> Arc<dyn QueueControl> {
        self.other.control_queue(table).expect("a queue")
    }

    async fn job_rows(&self, queue: &str) -> Vec<QueueRow> {
        self.other.rows(&format!("jobs:{queue}")).await
    }
}

/// Two connections to one database, as two processes have them.
pub(super) struct Pair {
    pub(super) store: Store,
    pub(super) other: Store,
    pub(super) database: Database,
    /// What stands before the names of the library's tables.
    before: &'static str,
}

impl Pair {
    pub(super) async fn sqlite() -> Self {
        Self::of(Database::new().await, Namespace::default(), "").await
    }

    /// With a table of the user's that has the name of one of the library's.
    pub(super) async fn sqlite_under_a_prefix() -> Self {
        let database = Database::empty().await;
        database.execute("CREATE TABLE jobs (id INTEGER PRIMARY KEY, title TEXT)").await;
        let namespace = Namespace::prefix("sched_").expect("a prefix");
        Self::of(database.migrated_in(&namespace).await, namespace, "sched_").await
    }

    #[cfg(feature = "postgres")]
    pub(super) async fn postgres() -> Option<Self> {
        let database = Database::new_on_postgres().await?;
        Some(Self::of(database, Namespace::default(), "").await)
    }

    /// In one whose name is a reserved word.
    #[cfg(feature = "postgres")]
    pub(super) async fn postgres_in_a_schema() -> Option<Self> {
        let database = Database::empty_on_postgres().await?;
        let namespace = Namespace::schema("order").expect("a schema");
        Some(Self::of(database.migrated_in(&namespace).await, namespace, "\"order\".").await)
    }

    async fn of(database: Database, namespace: Namespace, before: &'static str) -> Self {
        // Two transactions at once must not draw one number.
        let id = match database.backend() {
            DbBackend::Postgres => "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
            _ => "INTEGER PRIMARY KEY",
        };
        let notes = format!("CREATE TABLE callers_notes (id {id}, note TEXT NOT NULL)");
        database.execute(&notes).await;
        let other = database.another_store().await;
        let [store, other] = [&database.store, &other]
            .map(|store| store.in_namespace(namespace.clone()).expect("a namespace"));
        Self { store, other, database, before }
    }
}

#[async_trait]
impl Fixture for Pair {
    fn store(&self) -> &dyn SchedulerStore {
        &self.store
    }

    fn other(&self) -> &dyn SchedulerStore {
        &self.other
    }

    fn clock(&self) -> &ManualClock {
        &self.database.clock
    }

    async fn runs(&self, job: &str) -> Vec<RunRow> {
        self.database.runs_in(&format!("{}job_runs", self.before), job).await
    }

    async fn everything(&self) -> Vec<String> {
        const TABLES: [&str; 7] = [
            "instances",
            "schedules",
            "leases",
            "job_runs",
            "worker_heartbeats",
            "worker_instances",
            "dead_letters",
        ];
        let mut all = Vec::new();
        for table in TABLES {
            let table = format!("{}{table}", self.before);
            let columns = self.database.columns(table.rsplit('.').next().unwrap_or(&table)).await;
            let sql = format!("SELECT {} FROM {table} ORDER BY 1", columns.join(", "));
            all.extend(self.database.lines(&sql).await);
        }
        all
    }

    async fn edit(&self, edit: JobEdit) {
        let before = self.before;
        let sql = match edit {
            JobEdit::Pause { job } => {
                format!("UPDATE {before}schedules SET paused = TRUE WHERE job = '{job}'")
            }
            JobEdit::Override { job, cadence } => {
                let cadence = cadence.map_or("NULL".to_owned(), |cadence| format!("'{cadence}'"));
                format!(
                    "UPDATE {before}schedules SET cadence_override = {cadence} WHERE job = '{job}'"
                )
            }
            JobEdit::Due { job, at_ms } => {
                format!("UPDATE {before}schedules SET next_due_at_ms = {at_ms} WHERE job = '{job}'")
            }
            JobEdit::Cancel { lease } => {
                format!("UPDATE {before}leases SET cancel_requested = TRUE WHERE name = '{lease}'")
            }
        };
        self.database.execute(&sql).await;
    }
}

#[async_trait]
impl QueueFixture for Pair {
    async fn open(&self, table: QueueTable) -> (Arc<dyn QueueRows>, Arc<dyn QueueRows>) {
        create_parcels(&self.database).await;
        let other = self.other.open_queue(table.clone()).await.expect("a queue");
        (self.store.open_queue(table).await.expect("a queue"), other)
    }

    async fn enqueue(&self, rows: &[NewRow]) {
        for row in rows {
            self.database.execute(&insert(row)).await;
        }
    }

    async fn queue_rows(&self) -> Vec<QueueRow> {
        let rows = self.database.rows("SELECT * FROM parcels ORDER BY id").await;
        rows.iter().map(queue_row).collect()
    }

    async fn edit_row(&self, id: i64, edit: RowEdit) {
        let set = match edit {
            RowEdit::Cancel => "cancel_requested = TRUE".to_owned(),
            RowEdit::Crashes(crashes) => format!("crash_count = {crashes}"),
            RowEdit::NotStarted => "started = FALSE".to_owned(),
        };
        self.database.execute(&format!("UPDATE parcels SET {set} WHERE id = {id}")).await;
    }

    async fn open_jobs(&self, table: QueueTable) -> (Arc<dyn QueueRows>, Arc<dyn QueueRows>) {
        let other = self.other.open_queue(table.clone()).await.expect("a queue");
        (self.store.open_queue(table).await.expect("a queue"), other)
    }

    async fn control(&self, table: QueueTable) -> Arc<dyn QueueControl> {
        self.other.control_queue(table).await.expect("a queue")
    }

    async fn job_rows(&self, queue: &str) -> Vec<QueueRow> {
        let before = self.before;
        let sql = format!("SELECT * FROM {before}jobs WHERE queue = '{queue}' ORDER BY id");
        self.database.rows(&sql).await.iter().map(queue_row).collect()
    }
}

#[async_trait]
impl SqlFixture for Pair {
    fn sql(&self) -> (&Store, &Store) {
        (&self.store, &self.other)
    }

    async fn note(&self, txn: &DatabaseTransaction, text: &str) -> Result<(), StoreError> {
        execute(txn, &format!("INSERT INTO callers_notes (note) VALUES ('{text}')")).await
    }

    async fn notes(&self) -> Vec<String> {
        self.database.lines("SELECT note FROM callers_notes ORDER BY id").await
    }

    async fn enqueue_in(&self, txn: &DatabaseTransaction, row: &NewRow) -> Result<(), StoreError> {
        execute(txn, &insert(row)).await
    }
}

async fn execute(txn: &DatabaseTransaction, sql: &str) -> Result<(), StoreError> {
    txn.execute_unprepared(sql)
        .await
        .map(|_| ())
        .map_err(|source| StoreError::database("write", source))
}

fn insert(NewRow { label, user_id, priority, run_at_ms }: &NewRow) -> String {
    let label = label.replace('\'', "''");
    let user_id = user_id.map_or("NULL".to_owned(), |id| id.to_string());
    format!(
        "INSERT INTO parcels (label, user_id, priority, run_at_ms) VALUES ('{label}', {user_id}, {priority}, {run_at_ms})"
    )
}

fn queue_row(row: &QueryResult) -> QueueRow {
    QueueRow {
        status: word(row, "status"),
        priority: get(row, "priority"),
        run_at_ms: get(row, "run_at_ms"),
        attempt_count: get(row, "attempt_count"),
        max_attempts: get(row, "max_attempts"),
        crash_count: get(row, "crash_count"),
        leased_by: get::<Option<String>>(row, "leased_by").map(|id| id.parse().expect("a UUID")),
        lease_token: get(row, "lease_token"),
        lease_expires_at_ms: get(row, "lease_expires_at_ms"),
        started: get(row, "started"),
        cancel_requested: get(row, "cancel_requested"),
        progress_pct: get::<i32>(row, "progress_pct").into(),
        last_error: get(row, "last_error"),
        result: get(row, "result"),
        started_at_ms: get(row, "started_at_ms"),
        completed_at_ms: get(row, "completed_at_ms"),
        concurrency_slot: get::<Option<i32>>(row, "concurrency_slot").map(Into::into),
        queue_slot: get::<Option<i32>>(row, "queue_slot").map(Into::into),
        ..QueueRow::queued(RowId::Int(get(row, "id")))
    }
}

fn get<T: TryGetable>(row: &QueryResult, column: &str) -> T {
    row.try_get("", column).expect(column)
}

fn word<T: FromStr<Err: std::fmt::Debug>>(row: &QueryResult, column: &str) -> T {
    get::<String>(row, column).parse().expect(column)
}
