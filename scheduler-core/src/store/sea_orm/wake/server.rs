//! NOTIFY and LISTEN: one channel for the library's tables, whose payloads say what there is news of and who
//! says so.
//!
//! A NOTIFY takes a lock of the whole server at its commit, so it is never part of a transaction
//! that does something else, and what is told within a short span is one. The payload is
//! `TOPIC SENDER`; without a sender it came from a person (`NOTIFY scheduler_core, 'schedules'`), and
//! one that is not understood means that anything may have changed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sea_orm::sqlx::postgres::{PgListener, PgPoolOptions};
use sea_orm::sqlx::{self, Executor};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement, TransactionTrait};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::super::pooler::forget_statements;
use crate::store::wake::Hub;
use crate::store::{Namespace, Topic};

/// The channel of the library's tables under their own names, and the begin of those of others.
const CHANNEL: &str = "scheduler_core";
/// What is told within this span after a NOTIFY is the next one.
const QUIET: Duration = Duration::from_millis(20);
/// How often, and after which pause, what could not be told is tried again.
const MOST_FAILURES: u32 = 3;
const RETRY: Duration = Duration::from_millis(250);
/// How long a statement here may take, a connection included.
const LONGEST_STATEMENT: Duration = Duration::from_secs(10);
/// How long a closing store waits for what is still to be told.
const LONGEST_FLUSH: Duration = Duration::from_secs(2);
/// A connection that hears nothing is asked for a sign of life this often.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// The wait for that sign, and for what this process tells itself.
const LONGEST_ECHO: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// What a listener tells itself, to see whether it hears.
const PROBE: &str = "probe";

const NOTIFY: &str = "\
SELECT pg_notify($1, payload) FROM jsonb_array_elements_text(CAST($2 AS jsonb)) AS payloads (payload)";

/// Tells other processes.
pub(super) struct Notifier {
    mouth: Mouth,
    me: Arc<str>,
    state: Mutex<State>,
    /// Whether everything was told.
    idle: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    untold: BTreeSet<Topic>,
    telling: Option<JoinHandle<()>>,
}

impl Notifier {
    pub(super) fn new(
        connection: DatabaseConnection,
        namespace: &Namespace,
        keeps_statements: bool,
    ) -> Self {
        let channel = namespace.name_of(CHANNEL).into();
        Self {
            mouth: Mouth { connection, channel, keeps_statements },
            me: format!("{:016x}", fastrand::u64(..)).into(),
            state: Mutex::default(),
            idle: watch::Sender::new(true),
        }
    }

    pub(super) fn listener(&self) -> Listener {
        Listener { mouth: self.mouth.clone(), me: Arc::clone(&self.me) }
    }

    /// Tells of this topic soon: at once if nothing was told just before. What cannot be told after a
    /// few tries is lost, which a poll makes good.
    pub(super) fn notify(self: &Arc<Self>, topic: &Topic) {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut state = self.state();
        state.untold.insert(topic.clone());
        if state.telling.as_ref().is_none_or(JoinHandle::is_finished) {
            self.idle.send_replace(false);
            state.telling = Some(runtime.spawn(Arc::clone(self).tell()));
        }
    }

    /// Waits until everything is told, but not for long.
    pub(super) async fn flush(&self) {
        let mut idle = self.idle.subscribe();
        // Whatever came of it: who listens polls, too.
        let _ = timeout(LONGEST_FLUSH, idle.wait_for(|idle| *idle)).await;
    }

    async fn tell(self: Arc<Self>) {
        let mut failures = 0;
        loop {
            let topics = {
                let mut state = self.state();
                if state.untold.is_empty() {
                    state.telling = None;
                    self.idle.send_replace(true);
                    return;
                }
                std::mem::take(&mut state.untold)
            };
            let payloads = topics.iter().map(|topic| format!("{topic} {}", self.me)).collect();
            match self.mouth.notify(payloads).await {
                Ok(()) => failures = 0,
                // The server may just have come back, and the pool not have noticed.
                Err(_) if failures < MOST_FAILURES => {
                    failures += 1;
                    self.state().untold.extend(topics);
                    sleep(RETRY).await;
                }
                Err(error) => {
                    tracing::debug!(%error, "others were not told of news; their polls find it");
                }
            }
            sleep(QUIET).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why news is not heard, or not told.
#[derive(Debug, thiserror::Error)]
enum NewsError {
    #[error(transparent)]
    Told(#[from] DbErr),
    #[error(transparent)]
    Heard(#[from] sqlx::Error),
    #[error("the server did not answer")]
    Silent,
    #[error("the connection was lost")]
    Lost,
    #[error(
        "a NOTIFY of this process does not come back: is there a pooler in transaction mode in \
         between? Then open the store with `listen: false`"
    )]
    Unheard,
}

/// What a process tells others with: a connection of the pool, for as long as it takes.
#[derive(Clone)]
struct Mouth {
    connection: DatabaseConnection,
    channel: Arc<str>,
    keeps_statements: bool,
}

impl Mouth {
    /// One transaction, so that a pooler in transaction mode may be in between.
    async fn notify(&self, payloads: Vec<String>) -> Result<(), NewsError> {
        let payloads = serde_json::Value::from(payloads).to_string();
        let values = [(*self.channel).into(), payloads.into()];
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, NOTIFY, values);
        let told = async {
            let txn = self.connection.begin().await?;
            if !self.keeps_statements {
                forget_statements(&txn).await?;
            }
            txn.execute_raw(statement).await?;
            txn.commit().await
        };
        timeout(LONGEST_STATEMENT, told).await.map_err(|_| NewsError::Silent)?.map_err(Into::into)
    }
}

/// Hears what other processes tell.
#[derive(Clone)]
pub(super) struct Listener {
    mouth: Mouth,
    me: Arc<str>,
}

impl Listener {
    /// Tells of news until the database is closed; connects again whenever that fails.
    pub(super) async fn listen(self, hub: Arc<Hub>) {
        let mut pause = FIRST_PAUSE;
        let mut failing = false;
        loop {
            let began = Instant::now();
            let Err(error) = self.listen_once(&hub, &mut failing).await;
            if self.mouth.connection.get_postgres_connection_pool().is_closed() {
                return;
            }
            if !std::mem::replace(&mut failing, true) {
                tracing::warn!(%error, "news of other processes is not heard; polls find it until it is");
            }
            if began.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            sleep(pause).await;
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }

    async fn listen_once(
        &self,
        hub: &Hub,
        failing: &mut bool,
    ) -> Result<std::convert::Infallible, NewsError> {
        let mut ear = self.connect().await?;
        let probe = format!("{PROBE} {}", self.me);
        self.mouth.notify(vec![probe.clone()]).await?;
        let deadline = Instant::now() + LONGEST_ECHO;
        loop {
            let heard = timeout_at(deadline, hear(&mut ear)).await;
            if heard.map_err(|_| NewsError::Unheard)?? == probe {
                break;
            }
        }
        if std::mem::take(failing) {
            tracing::info!("news of other processes is heard again");
        }
        // Whoever waits since before sees what changed before.
        hub.tell_all();
        loop {
            match timeout(KEEP_ALIVE, hear(&mut ear)).await {
                Ok(payload) => self.pass_on(&payload?, hub),
                Err(_) => {
                    let answer = timeout(LONGEST_ECHO, ear.execute("SELECT 1")).await;
                    answer.map_err(|_| NewsError::Silent)??;
                }
            }
        }
    }

    /// A connection of its own: the pool keeps all of its places.
    async fn connect(&self) -> Result<PgListener, NewsError> {
        let options = self.mouth.connection.get_postgres_connection_pool().connect_options();
        let own = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(LONGEST_STATEMENT)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with((*options).clone());
        let mut ear = PgListener::connect_with(&own).await?;
        ear.eager_reconnect(false);
        let listening = timeout(LONGEST_STATEMENT, ear.listen(&self.mouth.channel)).await;
        listening.map_err(|_| NewsError::Silent)??;
        Ok(ear)
    }

    fn pass_on(&self, payload: &str, hub: &Hub) {
        match parse(payload) {
            Heard::News { sender, .. } | Heard::Probe { sender } if sender == Some(&*self.me) => {}
            Heard::Probe { .. } => {}
            Heard::News { topic: Some(topic), .. } => hub.tell(&topic),
            Heard::News { topic: None, .. } => hub.tell_all(),
        }
    }
}

/// The next payload.
async fn hear(ear: &mut PgListener) -> Result<String, NewsError> {
    let heard = ear.try_recv().await?.ok_or(NewsError::Lost)?;
    Ok(heard.payload().to_owned())
}

/// What a payload says.
#[derive(Debug, PartialEq, Eq)]
enum Heard<'p> {
    /// A listener tries whether it hears.
    Probe { sender: Option<&'p str> },
    /// There is news of this, or of something.
    News { topic: Option<Topic>, sender: Option<&'p str> },
}

fn parse(payload: &str) -> Heard<'_> {
    let mut words = payload.split_whitespace();
    let (topic, sender) = (words.next(), words.next());
    match topic {
        Some(PROBE) => Heard::Probe { sender },
        topic => Heard::News { topic: topic.and_then(|topic| topic.parse().ok()), sender },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_says_what_there_is_news_of_and_who_says_so() {
        let news = |topic, sender| Heard::News { topic, sender };
        let jobs = Topic::Queue("jobs".to_owned());
        for (payload, heard) in [
            ("schedules 01ab", news(Some(Topic::Schedules), Some("01ab"))),
            ("queue:jobs 01ab", news(Some(jobs.clone()), Some("01ab"))),
            ("queue:jobs", news(Some(jobs), None)),
            ("", news(None, None)),
            ("something of a later version", news(None, Some("of"))),
            ("probe 01ab", Heard::Probe { sender: Some("01ab") }),
        ] {
            assert_eq!(parse(payload), heard, "{payload}");
        }
    }
}
