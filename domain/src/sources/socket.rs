//! A WebSocket to a source: bounded in time and size, with TLS where the address says so.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::USER_AGENT;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// Why a stream broke, or never stood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The address is none of a WebSocket.
    #[error("`{0}` is no address of a WebSocket; expected ws://… or wss://…")]
    Address(String),
    /// It could not be connected to.
    #[error("{host} cannot be connected to: {detail}")]
    Unreachable {
        /// The host.
        host: String,
        /// What the connection said.
        detail: String,
    },
    /// It did not connect in time.
    #[error("{host} did not connect within {limit:?}")]
    Timeout {
        /// The host.
        host: String,
        /// The bound.
        limit: Duration,
    },
    /// It was closed by the other side, or broke.
    #[error("{host} ended the connection: {detail}")]
    Closed {
        /// The host.
        host: String,
        /// Its reason, or what the connection said.
        detail: String,
    },
}

/// A connection that stands.
pub struct Socket {
    host: String,
    stream: WebSocketStream<Box<dyn Wire>>,
}

trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// How long a connection may take to stand, TLS and upgrade included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a message may take to leave.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest message that is taken, in bytes.
const LONGEST_MESSAGE: usize = 8 << 20;
/// What is shown of the other side's reason to close.
const SHOWN: usize = 200;

impl Socket {
    /// Connects.
    ///
    /// # Errors
    /// [`SocketError::Address`], [`SocketError::Unreachable`], [`SocketError::Timeout`].
    ///
    /// # Cancellation
    /// Dropping the future abandons the connection.
    pub async fn connect(url: &str) -> Result<Self, SocketError> {
        let address = Address::read(url).ok_or_else(|| SocketError::Address(url.to_owned()))?;
        let host = address.host.to_owned();
        let limit = CONNECT_TIMEOUT;
        match tokio::time::timeout(limit, open(url, &address)).await {
            Ok(Ok(stream)) => Ok(Self { host, stream }),
            Ok(Err(detail)) => Err(SocketError::Unreachable { host, detail }),
            Err(_) => Err(SocketError::Timeout { host, limit }),
        }
    }

    /// Sends a text.
    ///
    /// # Errors
    /// [`SocketError::Closed`], also when it does not leave in time.
    pub async fn send(&mut self, text: String) -> Result<(), SocketError> {
        match tokio::time::timeout(SEND_TIMEOUT, self.stream.send(Message::text(text))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.closed(error.to_string())),
            Err(_) => Err(self.closed(format!("a message did not leave within {SEND_TIMEOUT:?}"))),
        }
    }

    /// The next text. Pings are answered on the way; what is no text is passed over.
    ///
    /// # Errors
    /// [`SocketError::Closed`].
    ///
    /// # Cancellation
    /// Safe: no message is lost.
    pub async fn next(&mut self) -> Result<String, SocketError> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
                Some(Ok(Message::Close(frame))) => {
                    let detail = frame.map_or_else(
                        || "without a reason".to_owned(),
                        |frame| format!("{} {}", frame.code, frame.reason),
                    );
                    return Err(self.closed(detail));
                }
                Some(Ok(_)) => {}
                Some(Err(Error::ConnectionClosed)) | None => {
                    return Err(self.closed("without a word".to_owned()));
                }
                Some(Err(error)) => return Err(self.closed(error.to_string())),
            }
        }
    }

    /// Says goodbye; whether the other side hears it does not matter.
    pub async fn close(mut self) {
        let goodbye = self.stream.close(None);
        let _ = tokio::time::timeout(Duration::from_secs(1), goodbye).await;
    }

    fn closed(&self, detail: String) -> SocketError {
        let detail = detail[..detail.floor_char_boundary(SHOWN)].to_owned();
        SocketError::Closed { host: self.host.clone(), detail }
    }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").field("host", &self.host).finish_non_exhaustive()
    }
}

async fn open(url: &str, address: &Address<'_>) -> Result<WebSocketStream<Box<dyn Wire>>, String> {
    let tcp = TcpStream::connect((address.host, address.port)).await;
    let tcp = tcp.map_err(|error| error.to_string())?;
    tcp.set_nodelay(true).map_err(|error| error.to_string())?;
    let wire: Box<dyn Wire> = if address.is_secure {
        let name = ServerName::try_from(address.host.to_owned());
        let name = name.map_err(|error| error.to_string())?;
        let connector = TlsConnector::from(std::sync::Arc::new(super::tls::client_config()));
        Box::new(connector.connect(name, tcp).await.map_err(|error| error.to_string())?)
    } else {
        Box::new(tcp)
    };
    let mut request = url.into_client_request().map_err(|error| error.to_string())?;
    request
        .headers_mut()
        .insert(USER_AGENT, HeaderValue::from_static(super::fetcher::USER_AGENT_NAME));
    let config = WebSocketConfig::default()
        .max_message_size(Some(LONGEST_MESSAGE))
        .max_frame_size(Some(LONGEST_MESSAGE));
    let opened = client_async_with_config(request, wire, Some(config)).await;
    opened.map(|(stream, _)| stream).map_err(|error| error.to_string())
}

/// What an address says about how to get there.
#[derive(Debug, PartialEq, Eq)]
struct Address<'a> {
    host: &'a str,
    port: u16,
    is_secure: bool,
}

impl<'a> Address<'a> {
    fn read(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let is_secure = match scheme {
            "ws" => false,
            "wss" => true,
            _ => return None,
        };
        let authority = rest.split(['/', '?', '#']).next()?;
        let default_port = if is_secure { 443 } else { 80 };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (authority, default_port),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (!host.is_empty()).then_some(Self { host, port, is_secure })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_tells_host_port_and_whether_it_is_secure() {
        let check = |url, expected: Option<(&str, u16, bool)>| {
            let found = Address::read(url);
            let found = found.as_ref().map(|found| (found.host, found.port, found.is_secure));
            assert_eq!(found, expected, "{url}");
        };
        check("wss://api.hyperliquid.xyz/ws", Some(("api.hyperliquid.xyz", 443, true)));
        check("ws://127.0.0.1:4000/hl/ws", Some(("127.0.0.1", 4000, false)));
        check("ws://[::1]:80", Some(("::1", 80, false)));
        check("ws://localhost", Some(("localhost", 80, false)));
        check("https://localhost", None);
        check("ws://localhost:x/", None);
        check("ws:///ws", None);
    }

    #[tokio::test]
    async fn a_refused_connection_is_an_error_that_names_the_host() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let error = Socket::connect(&format!("ws://127.0.0.1:{port}")).await.unwrap_err();
        assert!(matches!(error, SocketError::Unreachable { .. }), "{error}");
        assert!(error.to_string().starts_with("127.0.0.1 cannot be connected to"), "{error}");
    }
}
