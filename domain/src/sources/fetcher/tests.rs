use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use scheduler_core::testing::ManualClock;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// What the server does with one request.
#[derive(Clone, Copy)]
enum Reply {
    /// The whole of an answer, headers and all.
    Say(&'static str),
    /// As many bytes of body as it likes to.
    Flood(usize),
    /// Nothing, for ever.
    Silence,
    /// The end of the connection.
    HangUp,
}

/// A venue that plays replies in order, the last one again and again.
struct Venue {
    url: String,
    asked: Arc<AtomicU32>,
}

impl Venue {
    async fn plays(replies: &'static [Reply]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/info", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let turn = count.fetch_add(1, Ordering::SeqCst) as usize;
                let reply = replies[turn.min(replies.len() - 1)];
                tokio::spawn(answer(stream, reply));
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn answer(mut stream: TcpStream, reply: Reply) {
    let mut request = [0; 4096];
    let read = stream.read(&mut request).await.unwrap_or(0);
    assert!(request[..read].windows(10).any(|line| line == b"user-agent"), "it says who it is");
    match reply {
        Reply::Say(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
        }
        Reply::Flood(bytes) => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&vec![b' '; bytes]).await;
        }
        Reply::Silence => std::future::pending().await,
        Reply::HangUp => {}
    }
}

fn fetcher(options: impl FnOnce(&mut FetcherOptions)) -> Fetcher {
    let mut given = FetcherOptions::per_minute(6_000);
    // No wait between tries: the clock stands still.
    given.retry.backoff.first = Duration::ZERO;
    options(&mut given);
    Fetcher::new(given, Arc::new(ManualClock::at(1_000_000))).unwrap()
}

const DONE: Reply = Reply::Say("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"mids\": 1}");
const PAGE: Reply = Reply::Say("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 6\r\n\r\n<html>");
const CUT: Reply = Reply::Say("HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\n{\"mids\":");
const NULL_500: Reply = Reply::Say("HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\nnull");

#[tokio::test]
async fn a_failure_that_passes_is_tried_again() {
    let venue = Venue::plays(&[PAGE, CUT, Reply::HangUp, DONE]).await;
    let request = Request::post(&venue.url, json!({"type": "allMids"}), 2);
    assert_eq!(fetcher(|_| ()).fetch(&request).await.unwrap(), json!({"mids": 1}));
    assert_eq!(venue.asked(), 4);
}

#[tokio::test]
async fn a_refusal_is_not_tried_again() {
    let venue = Venue::plays(&[NULL_500]).await;
    let error = fetcher(|_| ()).fetch(&Request::get(&venue.url)).await.unwrap_err();
    assert!(matches!(error, SourceError::Refused { .. }), "{error}");
    assert_eq!(venue.asked(), 1);
}

#[tokio::test]
async fn a_silent_host_is_given_up() {
    let venue = Venue::plays(&[Reply::Silence]).await;
    let fetcher = fetcher(|options| {
        options.timeout = Duration::from_millis(50);
        options.retry.tries = 2;
    });
    let error = fetcher.fetch(&Request::get(&venue.url)).await.unwrap_err();
    assert!(matches!(error, SourceError::Timeout { .. }), "{error}");
    assert_eq!(venue.asked(), 2);
}

#[tokio::test]
async fn a_body_without_end_is_cut_off() {
    let venue = Venue::plays(&[Reply::Flood(1 << 20)]).await;
    let fetcher = fetcher(|options| options.longest_body = 1_000);
    let error = fetcher.fetch(&Request::get(&venue.url)).await.unwrap_err();
    assert!(matches!(error, SourceError::TooLarge { limit: 1_000, .. }), "{error}");
    assert_eq!(venue.asked(), 1);
}

#[tokio::test]
async fn a_host_that_is_down_is_left_alone() {
    let venue = Venue::plays(&[PAGE]).await;
    let fetcher = fetcher(|options| options.retry.tries = 5);
    let request = Request::get(&venue.url);
    assert!(matches!(fetcher.fetch(&request).await, Err(SourceError::Unavailable { .. })));
    let error = fetcher.fetch(&request).await.unwrap_err();
    assert!(matches!(error, SourceError::LeftAlone { failures: 5, .. }), "{error}");
    assert_eq!(venue.asked(), 5, "nobody asked it again");
}

#[tokio::test]
async fn a_limit_is_waited_out_by_the_clock() {
    let venue = Venue::plays(&[
        Reply::Say("HTTP/1.1 429 Slow\r\nretry-after: 40\r\ncontent-length: 4\r\n\r\nnull"),
        DONE,
    ])
    .await;
    let clock = ManualClock::at(0);
    let mut options = FetcherOptions::per_minute(6_000);
    options.retry.backoff.first = Duration::ZERO;
    let fetcher = Fetcher::new(options, Arc::new(clock.clone())).unwrap();
    let asking = tokio::spawn({
        let url = venue.url.clone();
        async move { fetcher.fetch(&Request::get(url)).await }
    });
    while venue.asked() < 1 {
        tokio::task::yield_now().await;
    }
    // Only the clock lets it go on; how often it looks is its own business.
    while !asking.is_finished() {
        clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    assert_eq!(asking.await.unwrap().unwrap(), json!({"mids": 1}));
    assert!(clock.now_ms() >= 40_000, "it came back after {} ms", clock.now_ms());
}
