//! Eight processes write to one SQLite file all the time: none sees a locked database, and none waits
//! for long.

use std::time::Duration;

use crate::database::{count, pause, prepare};
use crate::host::Host;

const WRITERS: usize = 8;
const SPAN: Duration = Duration::from_secs(4);

#[tokio::test]
async fn eight_processes_that_write_all_the_time_never_see_a_locked_database() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = format!("sqlite://{}", folder.path().join("writers.db").display());
    let store = prepare(&url, "CREATE TABLE effects (slot BIGINT NOT NULL)").await;
    let mut hosts: Vec<Host> = (0..WRITERS).map(|_| Host::start("write", &url, &[])).collect();
    for host in &mut hosts {
        host.wait_for("writing");
    }
    pause(SPAN).await;
    for host in &mut hosts {
        host.end_input();
    }
    let (mut all, mut longest, mut refused) = (0, 0, Vec::new());
    let (mut least, mut most) = (i64::MAX, 0);
    for mut host in hosts {
        let said = host.wait_for("wrote");
        let mut words = said.splitn(3, ' ');
        let mut number =
            || words.next().and_then(|word| word.parse::<i64>().ok()).expect("a number");
        let (kept, slowest_ms) = (number(), number());
        refused.extend(words.next().filter(|errors| !errors.is_empty()).map(str::to_owned));
        (least, most) = (least.min(kept), most.max(kept));
        all += kept;
        longest = longest.max(slowest_ms);
        assert!(host.ended().status.success());
    }
    println!(
        "{WRITERS} writing processes: {all} writes in {SPAN:?}, {least} to {most} each, the slowest took {longest} ms"
    );
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(count(&store, "SELECT count(*) AS n FROM effects").await, all);
}
