//! What the terminal says of the channels.

use super::*;

/// Every required channel has a datum of this moment.
async fn with_fresh_channels() -> Folder {
    let folder = Folder::migrated().await;
    let now_ms = scheduler_core::Clock::now_ms(&scheduler_core::SystemClock);
    for channel in domain::ingestion::CHANNELS.iter().filter(|channel| channel.required) {
        let row = format!(
            "INSERT INTO ingestion_channels (source, channel, status, last_success_at_ms,
                last_datum_at_ms) VALUES ('{}', '{}', 'succeeded', {now_ms}, {now_ms})",
            channel.source, channel.name
        );
        folder.execute(&row).await;
    }
    folder
}

#[tokio::test]
async fn a_check_fails_and_names_what_is_stale() {
    let folder = Folder::migrated().await;
    let stale = "hyperliquid/mids: no datum yet, last run never run";
    folder
        .arena(&["ingestion", "check"])
        .await
        .refused(1, &["required channels are stale: ", stale]);
    let checked = folder.arena(&["ingestion", "check", "--json"]).await;
    assert_eq!(checked.code, 1);
    let document = checked.json();
    assert_eq!(document["status"], "down");
    assert!(document["channels"].as_array().unwrap().iter().all(|one| one["stale"] == true));
}

#[tokio::test]
async fn a_check_is_content_with_the_required_channels() {
    let folder = with_fresh_channels().await;
    let checked = folder.arena(&["ingestion", "check"]).await.well();
    assert_eq!(checked, "every required channel is fresh\n");
    let document = folder.arena(&["ingestion", "check", "--json"]).await.json();
    assert_eq!(
        (&document["status"], document["channels"].as_array().unwrap().len()),
        (&"ok".into(), 0)
    );
}

#[tokio::test]
async fn the_status_lists_every_channel_and_lets_no_error_move_the_cursor() {
    let folder = with_fresh_channels().await;
    folder
        .execute("INSERT INTO ingestion_channels (source, channel, status, last_error, consecutive_failures)
             VALUES ('defillama', 'yields', 'failed', char(27) || '[31mred', 4)")
        .await;
    let shown = folder.arena(&["ingestion", "status"]).await.well();
    for channel in &domain::ingestion::CHANNELS {
        assert!(shown.contains(channel.name), "{channel} is missing in {shown}");
    }
    assert!(shown.contains("\\u{1b}[31mred") && shown.ends_with("ingestion: ok\n"), "{shown}");
    let document = folder.arena(&["ingestion", "status", "--json"]).await.json();
    let channels = document["channels"].as_array().unwrap();
    assert_eq!(channels.len(), domain::ingestion::CHANNELS.len());
    let yields = channels.iter().find(|one| one["channel"] == "yields").unwrap();
    assert_eq!(
        (&yields["freshness"], &yields["consecutive_failures"]),
        (&"never".into(), &4.into())
    );
}
