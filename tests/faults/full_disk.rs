//! A disk that is full, and one that becomes read-only, under a host on SQLite: nothing that was
//! answered is lost, and the host goes on when there is room again. The disk is a small one in
//! memory, mounted by the test; where that is not permitted, one line says so.

#![expect(clippy::print_stdout, reason = "the tests print what they saw")]

use std::path::{Path, PathBuf};
use std::process::Command;

use futures_util::future::join_all;
use scheduler_core::{Store, StoreError};
use sea_orm::ConnectionTrait;

use crate::database::{JOB_TABLES, count, prepare, until};
use crate::host::Host;

/// A file system of a few MiB, unmounted at the end.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
            .arg(path)
            .output();
        if mounted.is_ok_and(|mounted| mounted.status.success()) {
            return Some(Self { folder });
        }
        println!("not run: mounting a small disk is not permitted here; run as root");
        None
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn url(&self) -> String {
        format!("sqlite://{}", self.path().join("small.db").display())
    }

    /// Leaves no byte free.
    fn fill(&self) -> PathBuf {
        let filler = self.path().join("filler");
        let full = std::fs::write(&filler, vec![0; 8 << 20]);
        assert!(full.is_err(), "the disk is larger than it should be");
        filler
    }

    fn remount(&self, option: &str) {
        let option = format!("remount,{option}");
        let done = Command::new("mount").args(["-o", &option]).arg(self.path()).status();
        assert!(done.expect("mount runs").success(), "{option}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a child that a failed test left may still be inside.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Writes that share their commits, large enough to meet the end of the disk; how many were kept.
async fn burst(store: &Store) -> (i64, Vec<StoreError>) {
    let writes = (0..16).map(|_| {
        store.write("store a parcel", |txn| {
            Box::pin(async move {
                let insert = "INSERT INTO parcels VALUES (randomblob(20000))";
                let stored = txn.execute_unprepared(insert).await;
                stored.map(|_| ()).map_err(|source| StoreError::database("store a parcel", source))
            })
        })
    });
    let (kept, refused): (Vec<_>, Vec<_>) =
        join_all(writes).await.into_iter().partition(Result::is_ok);
    let refused = refused.into_iter().filter_map(Result::err).collect();
    (i64::try_from(kept.len()).expect("few"), refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_meet_the_end_of_the_disk_are_kept_or_refused_and_go_on_with_room() {
    let Some(disk) = SmallDisk::mount() else { return };
    let store = prepare(&disk.url(), "CREATE TABLE parcels (bytes BLOB)").await;
    let (mut kept, mut refusals) = (0, Vec::new());
    for _ in 0..40 {
        let (more, refused) = burst(&store).await;
        kept += more;
        refusals.extend(refused);
    }
    assert!(kept > 0 && !refusals.is_empty(), "{kept} kept");
    let is_said =
        |error: &StoreError| matches!(error, StoreError::Full { .. } | StoreError::Undone { .. });
    assert!(refusals.iter().all(|error| is_said(error) && error.is_transient()), "{refusals:?}");
    assert!(refusals.iter().any(|error| matches!(error, StoreError::Full { .. })));
    let other = Store::connect(&disk.url()).await;
    println!(
        "{kept} writes kept, {} refused; a second process: {:?}",
        refusals.len(),
        other.map(|_| ())
    );
    assert_eq!(count(&store, "SELECT count(*) AS n FROM parcels").await, kept);

    disk.remount("size=64m");

    let (more, refused) = burst(&store).await;
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(count(&store, "SELECT count(*) AS n FROM parcels").await, kept + more);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_whose_disk_is_full_goes_on_when_there_is_room() {
    let Some(disk) = SmallDisk::mount() else { return };
    let store = prepare(&disk.url(), JOB_TABLES).await;
    let mut host = Host::start("job", &disk.url(), &["interval=100", "work=1"]);
    host.wait_for("started");
    let booked = "SELECT count(*) AS n FROM effects";
    until(&store, booked, 3).await;

    let filler = disk.fill();
    // It runs into the end of the disk as soon as the log needs another page.
    until_full(&store).await;
    let before = count(&store, booked).await;
    std::fs::remove_file(filler).expect("removed");

    until(&store, booked, before + 5).await;
    let doubled =
        "SELECT count(*) AS n FROM (SELECT slot FROM effects GROUP BY slot HAVING count(*) > 1)";
    assert_eq!(count(&store, doubled).await, 0);
    let log = host.stop();
    let unfinished = "SELECT count(*) AS n FROM job_runs WHERE status = 'running'";
    assert_eq!(count(&store, unfinished).await, 0, "{log}");
    println!("booked {before} before there was room again");
}

/// Writes until the disk is full for this process, too.
async fn until_full(store: &Store) {
    for _ in 0..10_000 {
        let touched = store.write("touch the leases", |txn| {
            Box::pin(async move {
                let touched = txn.execute_unprepared("UPDATE leases SET name = name").await;
                touched.map_err(|source| StoreError::database("touch the leases", source))
            })
        });
        if matches!(touched.await, Err(StoreError::Full { .. })) {
            return;
        }
    }
    panic!("the disk does not get full");
}

#[tokio::test]
async fn a_file_on_a_disk_that_is_read_only_is_said_to_be_so() {
    let Some(disk) = SmallDisk::mount() else { return };
    let store = prepare(&disk.url(), JOB_TABLES).await;
    store.close().await.expect("closed");
    disk.remount("ro");

    let error = match Store::connect(&disk.url()).await {
        Err(error) => error,
        Ok(store) => {
            let written = store.write("note", |txn| {
                Box::pin(async move {
                    let noted =
                        txn.execute_unprepared("INSERT INTO effects VALUES (1, 1, 1)").await;
                    noted.map(|_| ()).map_err(|source| StoreError::database("note", source))
                })
            });
            written.await.expect_err("nothing can be written")
        }
    };
    println!("read-only disk: {error}");
    assert!(matches!(error, StoreError::ReadOnly { .. }), "{error:?}");

    disk.remount("rw");
    let store = Store::connect(&disk.url()).await.expect("opened");
    assert_eq!(count(&store, "SELECT count(*) AS n FROM effects").await, 0);
}
