//! Sources that hang, are gone, or are down: bounded, recorded, and nobody else's trouble.

use std::sync::Arc;
use std::time::Duration;

use domain::ingestion::Source::{self, Hyperliquid};
use domain::ingestion::find_channel;
use domain::sources::FetcherOptions;
use domain::sources::hyperliquid::HyperliquidClient;
use domain::workers::ingestion::{Fetched, register_polled};
use host::venues::{Endpoint, Fault, Host};
use scheduler_core::{RunReport, RunStatus};

use super::scene::{Scene, run};
use crate::harness::{Database, at_once};

const META: &str = "ingest_hyperliquid_meta";

/// A cycle of `hyperliquid/meta` by a client that waits two seconds for an answer, twice.
async fn impatient(scene: &Scene) -> RunReport {
    let mut options =
        FetcherOptions { timeout: Duration::from_secs(2), ..FetcherOptions::per_minute(600) };
    options.retry.tries = 2;
    let clock = Arc::new(scene.database.clock.clone());
    let url = &scene.venues.urls().hyperliquid;
    let client = HyperliquidClient::with_options(url, options, clock).expect("a client");
    let mut scheduler = scene.database.scheduler();
    let channel = find_channel(Hyperliquid, "meta").expect("a channel");
    register_polled(&mut scheduler, channel, move |_| {
        let client = client.clone();
        async move {
            let rows_read = client.meta().await?.listings.read.try_into().unwrap_or(i64::MAX);
            Ok(Fetched { rows_read, ..Fetched::default() })
        }
    })
    .expect("registered");
    run(&scheduler, META).await
}

async fn a_body_that_stalls_half_way_is_given_up_and_asked_for_again(database: Database) {
    let scene = Scene::new(database).await;
    let (faults, log) = (scene.venues.faults(), scene.venues.log());
    faults.push(Endpoint::Meta, Fault::stalled(200));
    assert_eq!(impatient(&scene).await.status, RunStatus::Succeeded);
    assert!(log.requests(Endpoint::Meta).len() >= 2, "it was asked again");
    assert!(scene.count("SELECT max(rows_read) FROM ingestion_runs").await > 5);
    // One that stalls each time is recorded, not waited for.
    faults.always(Endpoint::Meta, Fault::stalled(200));
    let asked = log.requests(Endpoint::Meta).len();
    let report = impatient(&scene).await;
    assert_eq!(report.status, RunStatus::Failed);
    let error = report.error.expect("an error");
    assert!(error.ends_with("did not answer within 2s"), "{error}");
    assert_eq!(log.requests(Endpoint::Meta).len(), asked + 2, "two tries");
    let failed =
        "SELECT consecutive_failures, last_error FROM ingestion_channels WHERE channel = 'meta'";
    assert_eq!(scene.database.lines(failed).await, [format!("1|{error}")]);
}

async fn what_a_source_has_dropped_is_asked_for_once_a_cycle(database: Database) {
    let scene = Scene::new(database).await;
    for status in [404, 410, 422] {
        let asked = scene.venues.log().requests(Endpoint::Meta).len();
        scene.venues.faults().push(Endpoint::Meta, Fault::answer(status, "no such type"));
        let report = scene.once(Hyperliquid, META).await;
        assert_eq!(report.status, RunStatus::Failed, "{status}");
        let error = report.error.expect("an error");
        assert!(error.contains(&format!("refuses the request: status {status}")), "{error}");
        assert_eq!(scene.venues.log().requests(Endpoint::Meta).len(), asked + 1, "{status}");
    }
}

async fn an_outage_of_one_source_starves_no_other(database: Database) {
    let scene = Scene::new(database).await;
    scene.venues.faults().refuse(Host::Hyperliquid, true);
    let running = scene.start(&Source::ALL).await;
    scene.reaches("SELECT count(DISTINCT feature) FROM features", 9).await;
    scene.reaches("SELECT count(*) FROM pm_odds WHERE fidelity_s = 0", 10).await;
    let failing = "SELECT count(*) FROM ingestion_channels WHERE source = 'hyperliquid' AND status = 'failed' AND consecutive_failures > 0 AND last_error IS NOT NULL";
    scene.reaches(failing, 2).await;
    scene.venues.faults().refuse(Host::Hyperliquid, false);
    scene.reaches("SELECT count(*) FROM trades", 10).await;
    running.stop(&at_once()).await;
    let others =
        "SELECT count(*) FROM ingestion_runs WHERE source <> 'hyperliquid' AND status = 'failed'";
    assert_eq!(scene.count(others).await, 0);
}

on_every_store! {
    a_body_that_stalls_half_way_is_given_up_and_asked_for_again,
    what_a_source_has_dropped_is_asked_for_once_a_cycle,
    an_outage_of_one_source_starves_no_other,
}
