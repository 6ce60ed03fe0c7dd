//! What an operator says about jobs.

use super::*;

async fn with_a_job() -> Folder {
    let folder = Folder::migrated().await;
    folder
        .execute(
            "INSERT INTO schedules (job, cadence, definition_hash, anchor_ms, next_due_at_ms)
             VALUES ('prop_decisions', 'every 1m', '1', 0, 60000)",
        )
        .await;
    folder
}

async fn listed(folder: &Folder) -> Value {
    folder.arena(&["jobs", "list", "--json"]).await.json()["jobs"][0].clone()
}

#[tokio::test]
async fn jobs_are_listed_with_what_an_operator_said() {
    let none = Folder::migrated().await.arena(&["jobs", "list"]).await.well();
    assert_eq!(none, "no process has registered a job here\n");
    let folder = with_a_job().await;
    let shown = folder.arena(&["jobs", "list"]).await.well();
    assert!(shown.contains("prop_decisions") && shown.contains("every 1m"), "{shown}");
    assert!(shown.contains("waiting") && shown.contains("1970-01-01T00:01:00Z"), "{shown}");
}

#[tokio::test]
async fn a_job_is_paused_and_resumed() {
    let folder = with_a_job().await;
    let said = folder.arena(&["jobs", "pause", "prop_decisions"]).await.well();
    assert_eq!(said, "prop_decisions is paused\n");
    assert_eq!(listed(&folder).await["paused"], true);
    assert!(folder.arena(&["jobs", "list"]).await.well().contains("paused"));
    let said = folder.arena(&["jobs", "resume", "prop_decisions"]).await.well();
    assert_eq!(said, "prop_decisions goes on at its next slot\n");
    let job = listed(&folder).await;
    assert_eq!(job["paused"], false);
    assert!(job["next_due_at_ms"].as_i64().unwrap() > 60_000, "what it slept through is no slot");
}

#[tokio::test]
async fn a_job_gets_another_cadence_until_it_is_reset() {
    let folder = with_a_job().await;
    let said = folder.arena(&["jobs", "cadence", "prop_decisions", "every 5m"]).await.well();
    assert_eq!(said, "prop_decisions is due every 5m\n");
    assert_eq!(listed(&folder).await["cadence_override"], "every 5m");
    let shown = folder.arena(&["jobs", "list"]).await.well();
    assert!(shown.contains("every 5m (instead of every 1m)"), "{shown}");
    let said = folder.arena(&["jobs", "cadence", "prop_decisions", "--reset"]).await.well();
    assert_eq!(said, "prop_decisions is due as its configuration says\n");
    assert_eq!(listed(&folder).await["cadence_override"], Value::Null);
    for (line, part) in [
        (&["jobs", "cadence", "prop_decisions", "soon"][..], "soon"),
        (&["jobs", "cadence", "prop_decisions", "every 0s"], "every 0s"),
        (&["jobs", "cadence", "prop_decisions"], "CADENCE"),
        (&["jobs", "cadence", "prop_decisions", "every 5m", "--reset"], "--reset"),
    ] {
        folder.arena(line).await.refused(2, &[part]);
    }
}

#[tokio::test]
async fn a_run_that_is_asked_for_twice_is_one_run() {
    let folder = with_a_job().await;
    folder.arena(&["jobs", "pause", "prop_decisions"]).await.well();
    let run = folder.arena(&["jobs", "run", "prop_decisions"]).await.well();
    assert_eq!(run, folder.arena(&["jobs", "run", "prop_decisions"]).await.well());
    assert_eq!(listed(&folder).await["run_requested"], run.trim());
    assert!(folder.arena(&["jobs", "list"]).await.well().contains("a run is asked for"));
}

#[tokio::test]
async fn a_job_that_nobody_registered_is_named() {
    let folder = with_a_job().await;
    for line in [
        &["jobs", "run", "nothing"][..],
        &["jobs", "pause", "nothing"],
        &["jobs", "resume", "nothing"],
        &["jobs", "cadence", "nothing", "manual"],
        &["jobs", "cadence", "nothing", "--reset"],
    ] {
        folder.arena(line).await.refused(1, &["`nothing`", "arena jobs list"]);
    }
}
