//! Hosts share one database while they are killed and frozen at random: what the protocol promises
//! must hold in what they leave. Each test prints its seed and its figures.

mod hosts;
mod queue;
mod slots;

#[cfg(feature = "postgres")]
#[path = "../it/postgres.rs"]
mod postgres;

/// A file of its own for a test, and its address.
fn sqlite() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = format!("sqlite://{}", folder.path().join("faults.db").display());
    (folder, url)
}

#[tokio::test]
async fn each_slot_runs_once_or_is_recorded_on_sqlite() {
    let (_folder, url) = sqlite();
    slots::torment(&url).await;
}

#[tokio::test]
async fn each_row_is_delivered_within_its_limits_on_sqlite() {
    let (_folder, url) = sqlite();
    queue::torment(&url).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn each_slot_runs_once_or_is_recorded_on_postgres() {
    if let Some(url) = postgres::new_database().await {
        slots::torment(&url).await;
    }
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn each_row_is_delivered_within_its_limits_on_postgres() {
    if let Some(url) = postgres::new_database().await {
        queue::torment(&url).await;
    }
}
