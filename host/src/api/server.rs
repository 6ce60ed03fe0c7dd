//! Serving: how many connections, how long a silent one lives, and how it ends.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use poem::http::uri::Scheme;
use poem::listener::{Acceptor, TcpAcceptor};
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Endpoint, Response, Server};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

use scheduler_core::Shutdown;

/// What clients may hold open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Connections at once; more wait in the operating system's queue.
    pub(crate) connections: usize,
    /// A connection on which nothing moves for this long is closed. Longer than a handler may
    /// take.
    pub(crate) silence: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { connections: 512, silence: Duration::from_secs(30) }
    }
}

/// Streams at once in one HTTP/2 connection.
const STREAMS: u32 = 64;

/// Serves until [`Shutdown::stop`], then lets the requests that run finish within `grace`.
/// [`Shutdown::hurry`] ends the grace. The listener is closed as soon as stopping begins.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve(
    listener: TcpListener,
    app: impl Endpoint<Output = Response> + 'static,
    shutdown: &Shutdown,
    grace: Duration,
) -> io::Result<()> {
    serve_within(Bounds::default(), listener, app, shutdown, grace).await
}

pub(crate) async fn serve_within(
    bounds: Bounds,
    listener: TcpListener,
    app: impl Endpoint<Output = Response> + 'static,
    shutdown: &Shutdown,
    grace: Duration,
) -> io::Result<()> {
    let acceptor = Bounded {
        tcp: TcpAcceptor::from_tokio(listener)?,
        permits: Arc::new(Semaphore::new(bounds.connections)),
        silence: bounds.silence,
    };
    let server = Server::new_with_acceptor(acceptor)
        .name("api")
        .http2_max_concurrent_streams(STREAMS)
        .run_with_graceful_shutdown(app, shutdown.stop.clone().cancelled_owned(), Some(grace));
    tokio::select! {
        served = server => served,
        () = shutdown.hurry.cancelled() => Ok(()),
    }
}

/// Accepts while there is room.
struct Bounded {
    tcp: TcpAcceptor,
    permits: Arc<Semaphore>,
    silence: Duration,
}

impl Acceptor for Bounded {
    type Io = Connection;

    fn local_addr(&self) -> Vec<LocalAddr> {
        self.tcp.local_addr()
    }

    async fn accept(&mut self) -> io::Result<(Connection, LocalAddr, RemoteAddr, Scheme)> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(io::Error::other)?;
        match self.tcp.accept().await {
            Ok((stream, local, remote, scheme)) => {
                let allowed = self.silence;
                let silence = Box::pin(tokio::time::sleep(allowed));
                let connection = Connection { stream, allowed, silence, _permit: permit };
                Ok((connection, local, remote, scheme))
            }
            Err(error) => {
                // The server asks again at once: out of file descriptors, that would be a spin.
                tracing::warn!(error = %error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                Err(error)
            }
        }
    }
}

/// A connection that counts against the limit, and fails when nothing moves on it for too long.
struct Connection {
    stream: TcpStream,
    allowed: Duration,
    silence: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    /// Passes a result on and starts the silence anew; while nothing moves, looks at the silence.
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        moved: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if moved.is_ready() {
            let until = Instant::now() + self.allowed;
            self.silence.as_mut().reset(until);
            return moved;
        }
        ready!(self.silence.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.watch(context, moved)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let moved = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, moved)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
