//! Starting and stopping: each host has a port of its own on loopback.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use poem::http::uri::Scheme;
use poem::listener::{Acceptor, TcpAcceptor};
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Request, Response, Server};
use scheduler_core::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::VenueOptions;
use super::defillama::DefiLlama;
use super::endpoint::Endpoint;
use super::faults::Faults;
use super::hyperliquid::{self, Hyperliquid};
use super::line::Line;
use super::log::Log;
use super::market::Market;
use super::network::Network;
use super::polymarket::{self, Catalogue, Clob, Gamma};
use super::site::Site;

/// A host of a venue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Host {
    /// Hyperliquid: REST and stream.
    Hyperliquid,
    /// DefiLlama: all of its hosts.
    DefiLlama,
    /// Polymarket's catalogue.
    Gamma,
    /// Polymarket's order books.
    Clob,
    /// Polymarket's stream.
    PolymarketStream,
}

/// Where running venues are, in the form that configuration takes.
#[derive(Debug, Clone)]
pub struct VenueUrls {
    /// `HYPERLIQUID_URL`
    pub hyperliquid: String,
    /// `HYPERLIQUID_WS_URL`
    pub hyperliquid_ws: String,
    /// `DEFILLAMA_URL`
    pub defillama: String,
    /// `POLYMARKET_GAMMA_URL`
    pub polymarket_gamma: String,
    /// `POLYMARKET_CLOB_URL`
    pub polymarket_clob: String,
    /// `POLYMARKET_WS_URL`
    pub polymarket_ws: String,
}

/// The simulated venues.
#[derive(Debug)]
pub struct Venues;

/// Venues that run until they are stopped or dropped.
pub struct RunningVenues {
    urls: VenueUrls,
    network: Arc<Network>,
    servers: JoinSet<()>,
}

impl Venues {
    /// Starts every venue on free ports of loopback.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(options: VenueOptions) -> io::Result<RunningVenues> {
        let VenueOptions { seed, coins, pace, limits, clock } = options;
        let market = Arc::new(Market::new(seed, &coins, pace));
        let network = Arc::new(Network::new(clock, limits, Shutdown::new(Duration::ZERO)));
        let mut servers = JoinSet::new();
        let exchange = Hyperliquid::new(Arc::clone(&market), limits.hyperliquid_per_minute);
        let exchange = Arc::new(exchange);
        let streams = Arc::clone(&exchange);
        let hyperliquid =
            listen(&mut servers, &network, Host::Hyperliquid, exchange, move |line| {
                let exchange = Arc::clone(&streams);
                async move { hyperliquid::serve(&exchange, line).await }
            })
            .await?;
        let aggregator = DefiLlama::new(Arc::clone(&market), limits.defillama_per_minute);
        let defillama =
            listen(&mut servers, &network, Host::DefiLlama, Arc::new(aggregator), silent).await?;

        let catalogue = Arc::new(Catalogue::new(market));
        let per_minute = limits.polymarket_per_minute;
        let site = Arc::new(Gamma::new(Arc::clone(&catalogue), per_minute));
        let gamma = listen(&mut servers, &network, Host::Gamma, site, silent).await?;
        let books = Arc::new(Clob::new(Arc::clone(&catalogue), per_minute));
        let site = Arc::clone(&books);
        let clob = listen(&mut servers, &network, Host::Clob, site, silent).await?;
        let host = Host::PolymarketStream;
        let changes = listen(&mut servers, &network, host, books, move |line| {
            let catalogue = Arc::clone(&catalogue);
            async move { polymarket::serve(&catalogue, line).await }
        })
        .await?;

        let urls = VenueUrls {
            hyperliquid: format!("http://{hyperliquid}"),
            hyperliquid_ws: format!("ws://{hyperliquid}/ws"),
            defillama: format!("http://{defillama}"),
            polymarket_gamma: format!("http://{gamma}"),
            polymarket_clob: format!("http://{clob}"),
            polymarket_ws: format!("ws://{changes}/ws/market"),
        };
        Ok(RunningVenues { urls, network, servers })
    }
}

impl RunningVenues {
    /// Where the venues are.
    #[must_use]
    pub fn urls(&self) -> &VenueUrls {
        &self.urls
    }

    /// What is to go wrong.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.network.faults
    }

    /// What was asked.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.network.log
    }

    /// Ends every connection and closes the ports.
    pub async fn stop(mut self) {
        self.network.shutdown.stop.cancel();
        while self.servers.join_next().await.is_some() {}
    }
}

impl Drop for RunningVenues {
    fn drop(&mut self) {
        self.network.shutdown.stop.cancel();
    }
}

impl std::fmt::Debug for RunningVenues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningVenues").field("urls", &self.urls).finish_non_exhaustive()
    }
}

/// For a host without a stream: the connection ends at once.
async fn silent(_line: Line) {}

/// Serves a host, with a stream where it has one, and answers where it is.
async fn listen<F>(
    servers: &mut JoinSet<()>,
    network: &Arc<Network>,
    host: Host,
    site: Arc<dyn Site>,
    stream: impl Fn(Line) -> F + Clone + Send + Sync + 'static,
) -> io::Result<std::net::SocketAddr>
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let tcp = TcpAcceptor::from_tokio(listener)?;
    let acceptor = Door { tcp, host, network: Arc::clone(network) };
    let own = Arc::clone(network);
    let app = poem::endpoint::make(move |request: Request| {
        let (network, site, stream) = (Arc::clone(&own), Arc::clone(&site), stream.clone());
        async move { respond(network, host, site, stream, request).await }
    });
    let stop = network.shutdown.stop.clone();
    let server = Server::new_with_acceptor(acceptor).run_with_graceful_shutdown(
        app,
        stop.cancelled_owned(),
        Some(Duration::ZERO),
    );
    servers.spawn(async move {
        if let Err(error) = server.await {
            tracing::warn!(%error, ?host, "a simulated venue has ended");
        }
    });
    Ok(address)
}

async fn respond<F>(
    network: Arc<Network>,
    host: Host,
    site: Arc<dyn Site>,
    stream: impl Fn(Line) -> F + Send + Sync + 'static,
    request: Request,
) -> Response
where
    F: Future<Output = ()> + Send + 'static,
{
    let kind = match request.uri().path() {
        "/ws" => Endpoint::HyperliquidStream,
        "/ws/market" => Endpoint::PolymarketStream,
        _ => return network.answer(host, &*site, request).await,
    };
    let own = Arc::clone(&network);
    let serve = move |socket| stream(Line::new(socket, kind, own));
    network.open(host, kind, request, serve).await
}

/// Accepts, and drops at once what comes while the host refuses.
struct Door {
    tcp: TcpAcceptor,
    host: Host,
    network: Arc<Network>,
}

impl Acceptor for Door {
    type Io = TcpStream;

    fn local_addr(&self) -> Vec<LocalAddr> {
        self.tcp.local_addr()
    }

    async fn accept(&mut self) -> io::Result<(TcpStream, LocalAddr, RemoteAddr, Scheme)> {
        loop {
            let accepted = self.tcp.accept().await?;
            if !self.network.faults.is_refused(self.host) {
                return Ok(accepted);
            }
        }
    }
}
