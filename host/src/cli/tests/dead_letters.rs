//! Items that failed: seen, tried again, given up.

use super::*;

async fn with_letters() -> Folder {
    let folder = Folder::migrated().await;
    for (key, status, attempts) in
        [("7", "dead", 10), ("8", "backing_off", 2), ("9", "resolved", 0)]
    {
        let row = format!(
            "INSERT INTO dead_letters (job, item_key, attempts, first_failed_at_ms, last_failed_at_ms,
                next_attempt_at_ms, last_error, status, updated_at_ms)
             VALUES ('prop_decisions', '{key}', {attempts}, 1000, {key}000, NULL, 'no' || char(10) || 'price', '{status}', {key}000)"
        );
        folder.execute(&row).await;
    }
    folder
}

#[tokio::test]
async fn letters_are_listed_without_the_resolved_ones() {
    let folder = with_letters().await;
    let document = folder.arena(&["dead-letters", "list", "--json"]).await.json();
    let letters = document["dead_letters"].as_array().unwrap();
    let keys: Vec<_> = letters.iter().map(|letter| letter["item_key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["8", "7"], "the latest failure first");
    assert_eq!((&letters[1]["kind"], &letters[1]["status"]), (&"item".into(), &"dead".into()));
    let shown = folder.arena(&["dead-letters", "list"]).await.well();
    assert!(shown.contains("no\\nprice") && shown.contains("backing off"), "{shown}");
    let dead = folder.arena(&["dead-letters", "list", "--status", "dead", "--json"]).await.json();
    assert_eq!(dead["dead_letters"].as_array().unwrap().len(), 1);
    let none = folder.arena(&["dead-letters", "list", "--job", "nobody"]).await.well();
    assert_eq!(none, "no dead letters\n");
    let wrong = folder.arena(&["dead-letters", "list", "--status", "gone"]).await;
    wrong.refused(2, &["--status", "gone", "dead"]);
}

#[tokio::test]
async fn a_letter_is_retried_and_discarded_by_its_number() {
    let folder = with_letters().await;
    let status = async || {
        let document = folder.arena(&["dead-letters", "list", "--json"]).await.json();
        document["dead_letters"][1]["status"].as_str().unwrap().to_owned()
    };
    let said = folder.arena(&["dead-letters", "retry", "1"]).await.well();
    assert_eq!(said, "letter 1 is tried again in the next cycle of its job\n");
    assert_eq!(status().await, "retrying");
    folder.arena(&["dead-letters", "discard", "1"]).await.well();
    assert_eq!(status().await, "discarded");
    for resolved_or_unknown in ["3", "99"] {
        let refused = folder.arena(&["dead-letters", "retry", resolved_or_unknown]).await;
        refused.refused(1, &["there is no letter", resolved_or_unknown]);
    }
}
