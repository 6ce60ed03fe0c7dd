//! The server through a socket: what clients may hold open, and how it ends.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::*;
use crate::api::server::{Bounds, serve_within};
use scheduler_core::Shutdown;

/// A server on a free port; answers its address and the task that ends with it.
async fn served(
    bounds: Bounds,
    app: impl Endpoint<Output = Response> + 'static,
    shutdown: &Shutdown,
) -> (SocketAddr, tokio::task::JoinHandle<io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = shutdown.clone();
    let grace = Duration::from_secs(60);
    (
        address,
        tokio::spawn(async move { serve_within(bounds, listener, app, &shutdown, grace).await }),
    )
}

async fn ask(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: arena\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn answer_of(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

struct Gate {
    entered: Arc<Notify>,
    open: Arc<Notify>,
}

impl Endpoint for Gate {
    type Output = Response;

    async fn call(&self, _: poem::Request) -> poem::Result<Response> {
        self.entered.notify_one();
        self.open.notified().await;
        Ok(Response::builder().body("finished"))
    }
}

#[tokio::test]
async fn a_request_that_runs_is_finished_before_the_server_ends() {
    let (entered, open) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let gate = Gate { entered: Arc::clone(&entered), open: Arc::clone(&open) };
    let shutdown = Shutdown::default();
    let (address, server) = served(Bounds::default(), gate, &shutdown).await;
    let stream = ask(address, "/").await;
    entered.notified().await;
    shutdown.stop.cancel();
    open.notify_one();
    assert!(answer_of(stream).await.ends_with("finished"));
    server.await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "the listener is closed");
}

#[tokio::test]
async fn a_second_signal_does_not_wait_for_requests() {
    let entered = Arc::new(Notify::new());
    let gate = Gate { entered: Arc::clone(&entered), open: Arc::new(Notify::new()) };
    let shutdown = Shutdown::default();
    let (address, server) = served(Bounds::default(), gate, &shutdown).await;
    let _stream = ask(address, "/").await;
    entered.notified().await;
    shutdown.stop.cancel();
    shutdown.hurry.cancel();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_whole_interface_answers_over_a_socket() {
    let shutdown = Shutdown::default();
    let (address, server) =
        served(Bounds::default(), app(state(Source::default())), &shutdown).await;
    let answer = answer_of(ask(address, "/livez").await).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with(r#"{"status":"ok"}"#), "{answer}");
    let answer = answer_of(ask(address, HEALTH).await).await;
    assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{answer}");
    shutdown.stop.cancel();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_connection_on_which_nothing_moves_is_closed() {
    let shutdown = Shutdown::default();
    let bounds = Bounds { silence: Duration::from_millis(20), ..Bounds::default() };
    let (address, server) = served(bounds, app(state(Source::default())), &shutdown).await;
    for begun in ["", "GET /livez HTTP/1.1\r\nHost: ar"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        assert_eq!(answer_of(stream).await, "", "closed without an answer");
    }
    shutdown.stop.cancel();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_connection_over_the_limit_waits_for_its_turn() {
    let shutdown = Shutdown::default();
    let bounds = Bounds { connections: 1, ..Bounds::default() };
    let (address, server) = served(bounds, app(state(Source::default())), &shutdown).await;
    // The first one says nothing and stays; the second one has asked, and gets no answer.
    let first = TcpStream::connect(address).await.unwrap();
    let mut second = ask(address, "/livez").await;
    let mut byte = [0];
    let answered = tokio::time::timeout(Duration::from_millis(50), second.read(&mut byte)).await;
    assert!(answered.is_err(), "{answered:?}");
    drop(first);
    assert!(answer_of(second).await.starts_with("HTTP/1.1 200 OK\r\n"));
    shutdown.stop.cancel();
    server.await.unwrap().unwrap();
}
