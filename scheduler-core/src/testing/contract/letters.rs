//! Dead letters: what is charged to the items of a cycle, and what people do about them.

use serde_json::json;

use super::steps::{DAY_MS, LEASE_MS, Steps, begin, manual, started};
use super::{Fixture, NOON};
use crate::lease::LeaseKey;
use crate::run::InstanceId;
use crate::store::{DeadLetter, ItemFailure, ItemSettlement, LetterFilter, LetterStatus};

/// What one cycle says about its items: failures with what was said, and what came right.
fn settlement(key: &LeaseKey, failures: &[(&str, &str)], resolved: &[&str]) -> ItemSettlement {
    let failure = |(item_key, error): &(&str, &str)| ItemFailure {
        item_key: (*item_key).to_owned(),
        delay_ms: 5_000,
        error: (*error).to_owned(),
        payload: None,
    };
    ItemSettlement {
        key: key.clone(),
        job: key.name.clone(),
        max_attempts: 3,
        failures: failures.iter().map(failure).collect(),
        resolved: resolved.iter().map(ToString::to_string).collect(),
    }
}

async fn settle(fixture: &dyn Fixture, settlement: &ItemSettlement) -> bool {
    fixture.store().settle_items(settlement).await.expect("settled")
}

async fn lease(fixture: &dyn Fixture, job: &str) -> LeaseKey {
    started(&begin(fixture.store(), manual(job, InstanceId::new())).await)
}

async fn letters(fixture: &dyn Fixture, status: Option<LetterStatus>) -> Vec<DeadLetter> {
    let filter = LetterFilter { status, ..LetterFilter::default() };
    fixture.other().dead_letters(&filter).await.expect("listed")
}

/// What is not resolved, by key: `key|status|attempts|first|last|next`, times as seconds after noon.
async fn lines(fixture: &dyn Fixture) -> Vec<String> {
    let seconds = |at_ms: i64| (at_ms - NOON) / 1_000;
    let mut letters = letters(fixture, None).await;
    letters.sort_by(|a, b| a.item_key.cmp(&b.item_key));
    let line = |letter: &DeadLetter| {
        let next = letter.next_attempt_at_ms.map(seconds);
        format!(
            "{}|{}|{}|{}|{}|{}",
            letter.item_key,
            letter.status,
            letter.attempts,
            seconds(letter.first_failed_at_ms),
            seconds(letter.last_failed_at_ms),
            next.map_or("-".to_owned(), |next| next.to_string()),
        )
    };
    letters.iter().map(line).collect()
}

/// `key|status|due`, as the next cycle reads it.
async fn standings(fixture: &dyn Fixture, job: &str) -> Vec<String> {
    let standings = fixture.other().standings(job).await.expect("standings");
    let line =
        |item: &crate::store::Standing| format!("{}|{}|{}", item.item_key, item.status, item.due);
    standings.iter().map(line).collect()
}

/// Failures count up per item until it is dead; others count for themselves.
pub async fn an_item_backs_off_and_is_dead_after_its_last_attempt(fixture: &dyn Fixture) {
    let key = lease(fixture, "mark").await;
    assert!(settle(fixture, &settlement(&key, &[("a", "refused"), ("b", "closed")], &[])).await);
    assert_eq!(lines(fixture).await, ["a|backing_off|1|0|0|5", "b|backing_off|1|0|0|5"]);
    fixture.advance_ms(10_000);
    assert!(settle(fixture, &settlement(&key, &[("a", "refused")], &[])).await);
    assert_eq!(lines(fixture).await, ["a|backing_off|2|0|10|15", "b|backing_off|1|0|0|5"]);
    fixture.advance_ms(10_000);
    assert!(settle(fixture, &settlement(&key, &[("a", "refused again")], &[])).await);
    assert_eq!(lines(fixture).await, ["a|dead|3|0|20|-", "b|backing_off|1|0|0|5"]);
    let dead = letters(fixture, Some(LetterStatus::Dead)).await;
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].job.as_str(), dead[0].last_error.as_str()), ("mark", "refused again"));

    let impatient =
        ItemSettlement { max_attempts: 1, ..settlement(&key, &[("c", "refused")], &[]) };
    assert!(settle(fixture, &impatient).await);
    assert_eq!(lines(fixture).await[2], "c|dead|1|20|20|-");
}

/// An item that comes right is resolved, and its next failure is its first.
pub async fn a_success_resolves_an_item_and_its_next_failure_counts_from_one(
    fixture: &dyn Fixture,
) {
    let key = lease(fixture, "mark").await;
    settle(fixture, &settlement(&key, &[("a", "refused"), ("b", "refused")], &[])).await;
    settle(fixture, &settlement(&key, &[("a", "refused")], &["b", "never failed"])).await;
    assert_eq!(lines(fixture).await, ["a|backing_off|2|0|0|5"]);
    assert_eq!(standings(fixture, "mark").await, ["a|backing_off|false"]);
    let resolved = letters(fixture, Some(LetterStatus::Resolved)).await;
    assert_eq!(resolved.len(), 1, "what never failed has no letter");
    assert_eq!((resolved[0].item_key.as_str(), resolved[0].attempts), ("b", 0));
    assert_eq!(resolved[0].next_attempt_at_ms, None);
    fixture.advance_ms(7_000);
    settle(fixture, &settlement(&key, &[("b", "refused")], &["a"])).await;
    assert_eq!(lines(fixture).await, ["b|backing_off|1|7|7|12"]);
}

/// What a cycle reads at its begin: items of its own job, due at their time and not before.
pub async fn an_item_is_due_again_at_its_time(fixture: &dyn Fixture) {
    let (mark, decide) = (lease(fixture, "mark").await, lease(fixture, "decide").await);
    settle(fixture, &settlement(&mark, &[("a", "refused")], &[])).await;
    settle(fixture, &settlement(&decide, &[("a", "refused"), ("z", "refused")], &[])).await;
    fixture.advance_ms(4_999);
    assert_eq!(standings(fixture, "mark").await, ["a|backing_off|false"]);
    fixture.advance_ms(1);
    assert_eq!(standings(fixture, "mark").await, ["a|backing_off|true"]);
    assert_eq!(standings(fixture, "decide").await, ["a|backing_off|true", "z|backing_off|true"]);
    assert_eq!(standings(fixture, "other").await, [""; 0]);
    let standing = &fixture.store().standings("mark").await.expect("standings")[0];
    assert_eq!((standing.attempts, standing.next_attempt_at_ms), (1, Some(NOON + 5_000)));
}

/// Who lost the lease charges nobody and resolves nobody.
pub async fn items_are_settled_under_the_lease_of_their_cycle_only(fixture: &dyn Fixture) {
    let key = lease(fixture, "mark").await;
    settle(fixture, &settlement(&key, &[("a", "refused")], &[])).await;
    let before = lines(fixture).await;
    let older = LeaseKey { token: key.token - 1, ..key.clone() };
    let stranger = LeaseKey { holder: InstanceId::new(), ..key.clone() };
    for key in [&older, &stranger] {
        assert!(!settle(fixture, &settlement(key, &[("b", "refused")], &["a"])).await, "{key:?}");
    }
    fixture.advance_ms(LEASE_MS - 1);
    assert!(settle(fixture, &settlement(&key, &[], &[])).await, "just before its expiry");
    fixture.advance_ms(1);
    assert!(
        !settle(fixture, &settlement(&key, &[("b", "refused")], &["a"])).await,
        "at its expiry"
    );
    assert_eq!(lines(fixture).await, before);
}

/// A person has a dead item tried again: it is due now, and fails or comes right like any other.
pub async fn a_retried_item_is_due_now_and_dead_again_if_it_fails(fixture: &dyn Fixture) {
    let key = lease(fixture, "mark").await;
    for _ in 0..3 {
        settle(fixture, &settlement(&key, &[("a", "refused"), ("b", "refused")], &[])).await;
    }
    assert_eq!(standings(fixture, "mark").await, ["a|dead|false", "b|dead|false"]);
    for letter in letters(fixture, None).await {
        assert!(fixture.other().retry_letter(letter.id).await.expect("retried"));
    }
    assert_eq!(lines(fixture).await, ["a|retrying|3|0|0|0", "b|retrying|3|0|0|0"]);
    assert_eq!(standings(fixture, "mark").await, ["a|retrying|true", "b|retrying|true"]);
    settle(fixture, &settlement(&key, &[("a", "refused")], &["b"])).await;
    assert_eq!(lines(fixture).await, ["a|dead|4|0|0|-"]);
    let resolved = letters(fixture, Some(LetterStatus::Resolved)).await;
    assert!(!fixture.other().retry_letter(resolved[0].id).await.expect("answered"), "resolved");
    assert!(!fixture.other().retry_letter(i64::MAX).await.expect("answered"), "no such letter");
}

/// A person discards an item: no cycle changes that, another person may.
pub async fn a_discarded_item_stays_so_until_it_is_retried(fixture: &dyn Fixture) {
    let key = lease(fixture, "mark").await;
    settle(fixture, &settlement(&key, &[("a", "refused"), ("b", "refused")], &[])).await;
    for letter in letters(fixture, None).await {
        assert!(fixture.other().discard_letter(letter.id).await.expect("discarded"));
    }
    // A cycle that was under way meanwhile.
    settle(fixture, &settlement(&key, &[("a", "refused")], &["b"])).await;
    assert_eq!(lines(fixture).await, ["a|discarded|1|0|0|-", "b|discarded|1|0|0|-"]);
    assert_eq!(standings(fixture, "mark").await, ["a|discarded|false", "b|discarded|false"]);
    let discarded = letters(fixture, Some(LetterStatus::Discarded)).await;
    assert!(fixture.other().retry_letter(discarded[0].id).await.expect("retried"));
    assert_eq!(letters(fixture, Some(LetterStatus::Retrying)).await.len(), 1);
    assert!(!fixture.other().discard_letter(i64::MAX).await.expect("answered"), "no such letter");
}

/// People see the latest failure first, of one job or of all, and no more than they ask for.
pub async fn letters_are_listed_latest_first(fixture: &dyn Fixture) {
    let (mark, decide) = (lease(fixture, "mark").await, lease(fixture, "decide").await);
    settle(fixture, &settlement(&mark, &[("a", "refused")], &[])).await;
    fixture.advance_ms(1_000);
    settle(fixture, &settlement(&decide, &[("b", "refused")], &[])).await;
    fixture.advance_ms(1_000);
    settle(fixture, &settlement(&mark, &[("c", "refused"), ("a", "refused")], &[])).await;
    let keys = async |filter: LetterFilter| {
        let letters = fixture.other().dead_letters(&filter).await.expect("listed");
        letters.into_iter().map(|letter| letter.item_key).collect::<Vec<_>>().concat()
    };
    let of_mark = LetterFilter { job: Some("mark".to_owned()), ..LetterFilter::default() };
    let all = keys(LetterFilter::default()).await;
    assert!(all == "acb" || all == "cab", "{all}");
    assert_eq!(keys(of_mark.clone()).await.len(), 2);
    assert_eq!(keys(LetterFilter { limit: 1, ..of_mark }).await.len(), 1);
}

/// What is said about an item is kept as it was said, but bounded and storable.
pub async fn what_a_letter_says_survives_the_way_into_the_database(fixture: &dyn Fixture) {
    let key = lease(fixture, "mark").await;
    let said = "it's \"refused\"; \\ ünïcode\n%$1 {now}";
    let payload = json!({ "price": "0.1", "said": said, "none": null, "nul": "\0" });
    let failures = [
        ItemFailure {
            item_key: said.to_owned(),
            delay_ms: 1,
            error: said.to_owned(),
            payload: Some(payload.clone()),
        },
        ItemFailure {
            item_key: "long".to_owned(),
            delay_ms: 0,
            error: "ü\0".repeat(10_000),
            payload: None,
        },
    ];
    let settlement = ItemSettlement { failures: failures.into(), ..settlement(&key, &[], &[]) };
    assert!(settle(fixture, &settlement).await);
    let letters = letters(fixture, None).await;
    let letter = letters.iter().find(|letter| letter.item_key == said).expect("a letter");
    assert_eq!((letter.last_error.as_str(), &letter.payload), (said, &Some(payload)));
    let long = letters.iter().find(|letter| letter.item_key == "long").expect("a letter");
    assert!(long.last_error.len() < 10_000 && long.last_error.starts_with("ü\u{fffd}"));
    assert_eq!(standings(fixture, "mark").await.len(), 2);
}

/// What came right is kept for a week, what did not for ever.
pub async fn resolved_letters_are_pruned_and_others_stay(fixture: &dyn Fixture) {
    let key = lease(fixture, "mark").await;
    settle(
        fixture,
        &settlement(&key, &[("a", "refused"), ("b", "refused"), ("c", "refused")], &[]),
    )
    .await;
    settle(fixture, &settlement(&key, &[], &["a", "b"])).await;
    fixture.advance_ms(7 * DAY_MS);
    fixture.store().prune(1_000).await.expect("pruned");
    assert_eq!(letters(fixture, Some(LetterStatus::Resolved)).await.len(), 2);
    fixture.advance_ms(1);
    assert_eq!(fixture.store().prune(1).await.expect("pruned"), 1, "no more than it is told");
    fixture.store().prune(1_000).await.expect("pruned");
    assert_eq!(letters(fixture, Some(LetterStatus::Resolved)).await.len(), 0);
    assert_eq!(lines(fixture).await.len(), 1);
}
