//! A seeded arena: its books, its clocks.

use super::*;

#[tokio::test]
async fn the_books_of_a_seeded_arena_hold_until_somebody_takes_money() {
    let folder = Folder::migrated().await;
    folder.arena(&["seed", "demo"]).await.well();
    let held = folder.arena(&["doctor"]).await.well();
    assert_eq!(held, "books: 3 accounts, 6 postings, 0 fills\n");
    folder.execute("UPDATE prop_accounts SET cash = '9000' WHERE id = 1").await;
    let caught = folder.arena(&["doctor"]).await;
    caught.refused(1, &["the books do not hold: 1 discrepancies"]);
    assert!(caught.out.contains("account 1: cash is 9000"), "{}", caught.out);
    let document = folder.arena(&["doctor", "--json"]).await.json();
    assert_eq!((&document["holds"], &document["discrepancy_count"]), (&false.into(), &1.into()));
}

#[tokio::test]
async fn live_processes_that_disagree_about_a_job_are_a_finding_of_the_doctor() {
    let folder = Folder::migrated().await;
    for (id, cadence) in [(1, "every 1m"), (2, "every 5m")] {
        let announce = format!(
            "INSERT INTO instances (instance_id, host, pid, version, definitions, started_at_ms, seen_at_ms, skew_ms, stopping)
             VALUES ('00000000-0000-7000-8000-00000000000{id}', 'here', 1, '1', '{{\"mark\":\"{cadence}\"}}', 0, unixepoch() * 1000, 0, FALSE)"
        );
        folder.execute(&announce).await;
    }
    let caught = folder.arena(&["doctor"]).await;
    caught.refused(1, &["live processes disagree about 1 jobs"]);
    let said = "job mark: live processes define it in different ways: every 1m (00000000-0000-7000-8000-000000000001); every 5m (";
    assert!(caught.out.contains(said), "{}", caught.out);
    let document = folder.arena(&["doctor", "--json"]).await.json();
    assert_eq!(document["holds"], true, "the books do");
    assert_eq!(document["disagreements"][0]["job"], "mark");
    folder.execute("UPDATE instances SET stopping = TRUE WHERE instance_id LIKE '%1'").await;
    folder.arena(&["doctor"]).await.well();
}

#[tokio::test]
async fn the_cadence_of_every_job_is_shown_with_its_next_times() {
    let folder = Folder::migrated().await;
    let line = ["cadence", "--json", "--next", "3", "--prop-decisions-interval", "90s"];
    let document = folder.arena(&line).await.json();
    let jobs = document["jobs"].as_array().unwrap();
    let find = |name: &str| jobs.iter().find(|job| job["job"] == name).unwrap();
    let decisions = find("prop_decisions");
    assert_eq!(decisions["cadence"], "every 1m 30s");
    let next: Vec<i64> = decisions["next"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fire| fire["at_ms"].as_i64().unwrap())
        .collect();
    assert_eq!(next.len(), 3);
    assert_eq!(next[2] - next[0], 180_000);
    for job in ["backtesting", "lifecycle_arena_entry", "ingest_polymarket_discovery"] {
        assert!(!find(job)["description"].as_str().unwrap().is_empty(), "{job}");
    }

    folder.arena(&["worker", "mark-to-market", "--once"]).await.well();
    folder
        .execute(
            "INSERT INTO schedules (job, cadence, cadence_override, definition_hash, anchor_ms, paused)
             VALUES ('prop_decisions', 'every 60s', 'every 2m', 'h', 0, TRUE)",
        )
        .await;
    let shown = folder.arena(&["cadence"]).await.well();
    assert!(shown.contains("every 2m (overridden)") && shown.contains("paused"), "{shown}");
}
