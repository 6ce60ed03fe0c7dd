//! Signals reach a whole process: so this test has one of its own.

#![cfg(unix)]

use std::process::Command;

#[tokio::test]
async fn the_first_signal_stops_and_the_second_one_hurries() {
    let send = |signal: &str| {
        let kill = format!("kill {signal} {}", std::process::id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    };
    let shutdown = host::shutdown::on_signals().unwrap();
    send("-TERM");
    shutdown.stop.cancelled().await;
    assert!(!shutdown.hurry.is_cancelled());
    send("-INT");
    shutdown.hurry.cancelled().await;
}
