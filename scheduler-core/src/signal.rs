//! A value that several tasks wait for.
//!
//! As tokio's `watch`, but for one thing: who waits is woken in the order of waiting, where `watch`
//! draws lots. The same events then have the same consequences, which is what lets a simulation
//! repeat itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Changes the value.
pub(crate) struct Sender<T>(Arc<Shared<T>>);

/// Looks at the value and waits for it. Waits for ever when nobody can change it any more.
pub(crate) struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// The version that was seen last.
    seen: u64,
}

struct Shared<T> {
    /// With its version.
    value: Mutex<(T, u64)>,
    changed: Notify,
}

pub(crate) fn channel<T: Copy>(value: T) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared { value: Mutex::new((value, 0)), changed: Notify::new() });
    (Sender(Arc::clone(&shared)), Receiver { shared, seen: 0 })
}

impl<T: Copy> Shared<T> {
    fn value(&self) -> MutexGuard<'_, (T, u64)> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Copy> Sender<T> {
    pub(crate) fn get(&self) -> T {
        self.0.value().0
    }

    pub(crate) fn send(&self, value: T) {
        self.send_if_modified(|old| {
            *old = value;
            true
        });
    }

    /// Wakes whoever waits if `modify` says that it changed something worth it.
    pub(crate) fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) {
        let modified = {
            let mut value = self.0.value();
            let modified = modify(&mut value.0);
            value.1 += u64::from(modified);
            modified
        };
        if modified {
            self.0.changed.notify_waiters();
        }
    }
}

impl<T: Copy> Receiver<T> {
    pub(crate) fn get(&self) -> T {
        self.shared.value().0
    }

    /// Returns when the value is as wanted. Cancellation safe.
    pub(crate) async fn wait_for(&mut self, wanted: impl Fn(T) -> bool) {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            // Register interest before looking: a change in between must not be missed.
            changed.as_mut().enable();
            if wanted(self.get()) {
                return;
            }
            changed.await;
        }
    }

    /// Returns the value when it changed since the last time. Cancellation safe.
    pub(crate) async fn changed(&mut self) -> T {
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let (value, version) = *self.shared.value();
            if std::mem::replace(&mut self.seen, version) != version {
                return value;
            }
            changed.await;
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), seen: self.seen }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::channel;

    #[test]
    fn a_change_is_news_once_for_everybody() {
        let (sender, mut first) = channel(1);
        assert_eq!(first.changed().now_or_never(), None, "what was before is not news");
        sender.send(2);
        let mut second = first.clone();
        sender.send_if_modified(|value| {
            *value = 3;
            false
        });
        assert_eq!(first.changed().now_or_never(), Some(3));
        assert_eq!(first.changed().now_or_never(), None);
        assert_eq!(second.changed().now_or_never(), Some(3));
        assert!(first.wait_for(|value| value == 3).now_or_never().is_some());
        assert!(first.wait_for(|value| value == 4).now_or_never().is_none());
        assert_eq!((sender.get(), first.get()), (3, 3));
    }

    #[tokio::test]
    async fn who_waits_is_woken_in_the_order_of_waiting() {
        let (sender, receiver) = channel(false);
        let (woken, mut order) = tokio::sync::mpsc::unbounded_channel();
        for number in 0..20 {
            let (mut receiver, woken) = (receiver.clone(), woken.clone());
            tokio::spawn(async move {
                receiver.wait_for(|value| value).await;
                woken.send(number).expect("somebody listens");
            });
        }
        tokio::task::yield_now().await;
        sender.send(true);
        for number in 0..20 {
            assert_eq!(order.recv().await, Some(number));
        }
    }
}
