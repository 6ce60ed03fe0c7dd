//! News between those who write and those who wait: who wakes whom, in this process and in others.
//!
//! A wake is a hint. It says that looking now is worth it, never what will be found, and it may be
//! lost, doubled or late: whoever waits looks by himself now and then. So nothing here waits and
//! nothing here fails.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// What there is news of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Topic {
    /// Rows of `schedules`: a definition, a pause, an override, a slot that waits.
    Schedules,
    /// Rows of the queue with this table, or `jobs:QUEUE` of the library's own: enqueued, or finished
    /// and so making room.
    Queue(String),
}

impl std::fmt::Display for Topic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Schedules => f.write_str("schedules"),
            Self::Queue(table) => write!(f, "queue:{table}"),
        }
    }
}

impl FromStr for Topic {
    type Err = UnknownTopic;

    fn from_str(text: &str) -> Result<Self, UnknownTopic> {
        match text.split_once(':') {
            None if text == "schedules" => Ok(Self::Schedules),
            Some(("queue", table)) => Ok(Self::Queue(table.to_owned())),
            _ => Err(UnknownTopic),
        }
    }
}

/// A topic that this version does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such topic; expected `schedules` or `queue:TABLE`")]
pub struct UnknownTopic;

/// Wakes between the processes on one database.
///
/// Correctness never hangs on it: a store whose wakes reach its own process only is a correct one.
pub trait WakeStore: Send + Sync + 'static {
    /// News of a topic, of this process and of others, from now on. What others changed before the
    /// store could listen to them counts as news.
    fn changes(&self, topic: &Topic) -> Changes;

    /// Tells whoever waits for news of the topic: in this process at once, in others soon. Call it
    /// after the commit of what there is to see.
    fn wake(&self, topic: &Topic);
}

/// News of one topic, merged: however much there was, one look sees it all.
#[derive(Debug)]
pub struct Changes(watch::Receiver<()>);

impl Changes {
    /// Returns when there was news since the last time. Cancellation safe.
    pub async fn changed(&mut self) {
        // An error says that the store is gone, and there will be no news.
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// A wake that is due when the transaction that it is about has committed: only its caller knows
/// when. Dropped instead, nobody is woken, and the next poll finds what was written.
#[must_use = "nobody is woken before it is sent: send it after the commit"]
pub struct Wake {
    store: Arc<dyn WakeStore>,
    topic: Topic,
}

impl Wake {
    /// Wakes whoever waits for news of the topic, here and in other processes.
    pub fn send(self) {
        self.store.wake(&self.topic);
    }
}

impl std::fmt::Debug for Wake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wake").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// Tells the consumers of one queue that rows were enqueued, in whichever process they are. Cheap
/// to clone.
///
/// ```
/// use scheduler_core::queue::{QueueWaker, Wake};
/// # async fn insert_email(_: &sea_orm::DatabaseTransaction) -> Result<(), scheduler_core::StoreError> { Ok(()) }
///
/// /// In the caller's transaction, so the wake is his to send.
/// async fn enqueue(
///     txn: &sea_orm::DatabaseTransaction,
///     emails: &QueueWaker,
/// ) -> Result<Wake, scheduler_core::StoreError> {
///     insert_email(txn).await?;
///     Ok(emails.after_commit())
/// }
/// # async fn order(store: scheduler_core::Store) -> Result<(), scheduler_core::StoreError> {
///
/// let emails = QueueWaker::new(store.clone(), "emails");
/// let wake = store
///     .write("place an order", |txn| Box::pin(async move { enqueue(txn, &emails).await }))
///     .await?;
/// wake.send();
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct QueueWaker {
    store: Arc<dyn WakeStore>,
    topic: Topic,
}

impl QueueWaker {
    /// For the queue with this table. A consumer of it in this process is not needed.
    #[must_use]
    pub fn new(store: impl WakeStore, table: impl Into<String>) -> Self {
        Self::of(store, Topic::Queue(table.into()))
    }

    pub(crate) fn of(store: impl WakeStore, topic: Topic) -> Self {
        Self { store: Arc::new(store), topic }
    }

    /// Makes the consumers look now. Call it after the commit of the enqueue; forgotten, the safety
    /// poll finds the row.
    pub fn wake(&self) {
        self.after_commit().send();
    }

    /// The wake that an enqueue answers to whoever commits it.
    pub fn after_commit(&self) -> Wake {
        Wake { store: Arc::clone(&self.store), topic: self.topic.clone() }
    }

    pub(crate) fn changes(&self) -> Changes {
        self.store.changes(&self.topic)
    }
}

impl std::fmt::Debug for QueueWaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueueWaker").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// Those who wait in this process, by topic.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    topics: Mutex<HashMap<Topic, watch::Sender<()>>>,
}

impl Hub {
    pub(crate) fn changes(&self, topic: &Topic) -> Changes {
        Changes(self.topics().entry(topic.clone()).or_default().subscribe())
    }

    /// There is news of this topic.
    pub(crate) fn tell(&self, topic: &Topic) {
        if let Some(waiting) = self.topics().get(topic) {
            waiting.send_replace(());
        }
    }

    /// There is news, and nobody knows of what.
    pub(crate) fn tell_all(&self) {
        for waiting in self.topics().values() {
            waiting.send_replace(());
        }
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<Topic, watch::Sender<()>>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn queue(table: &str) -> Topic {
        Topic::Queue(table.to_owned())
    }

    #[test]
    fn a_topic_survives_its_way_as_text() {
        for topic in [Topic::Schedules, queue("jobs:mails"), queue("backtest_jobs")] {
            assert_eq!(topic.to_string().parse(), Ok(topic));
        }
        for text in ["", "schedule", "schedules:1", "jobs", "topic:jobs"] {
            assert_eq!(text.parse::<Topic>(), Err(UnknownTopic), "{text}");
        }
    }

    #[test]
    fn news_is_of_its_topic_and_kept_and_merged() {
        let hub = Hub::default();
        hub.tell(&queue("jobs"));
        let mut jobs = hub.changes(&queue("jobs"));
        let mut schedules = hub.changes(&Topic::Schedules);
        let mut news = || {
            let is_news = |changes: &mut Changes| changes.changed().now_or_never().is_some();
            (is_news(&mut jobs), is_news(&mut schedules))
        };
        assert_eq!(news(), (false, false), "what was before is not news");
        hub.tell(&queue("jobs"));
        hub.tell(&queue("jobs"));
        hub.tell(&queue("others"));
        assert_eq!(news(), (true, false));
        assert_eq!(news(), (false, false));
        hub.tell_all();
        assert_eq!(news(), (true, true));
        drop(hub);
        assert_eq!(news(), (false, false));
    }
}
