//! Between the sites and the network: limits, faults and the log.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream;
use poem::http::{HeaderMap, StatusCode, header};
use poem::web::websocket::{WebSocket, WebSocketStream};
use poem::{FromRequest, IntoResponse, Request, Response};
use scheduler_core::{Clock, Shutdown};

use super::endpoint::Endpoint;
use super::faults::{Fault, Faults};
use super::log::{Log, Seen};
use super::site::{Asked, Body, Reply, Site};
use super::{Host, VenueLimits};

/// The longest body that a request may have.
const LONGEST_BODY: usize = 1 << 20;

/// What every host of the venues shares.
pub(crate) struct Network {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) log: Arc<Log>,
    pub(crate) limits: VenueLimits,
    pub(crate) shutdown: Shutdown,
    budgets: Mutex<HashMap<Host, Budget>>,
}

/// What a caller has left: it fills up within a minute.
struct Budget {
    left: f64,
    at_ms: i64,
}

impl Network {
    pub(crate) fn new(clock: Arc<dyn Clock>, limits: VenueLimits, shutdown: Shutdown) -> Self {
        let (faults, log) = (Arc::default(), Arc::default());
        Self { clock, faults, log, limits, shutdown, budgets: Mutex::default() }
    }

    /// Now, by the venues' clock.
    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_ms() + self.faults.clock_offset_ms()
    }

    /// Answers a request that is no stream.
    pub(crate) async fn answer(
        &self,
        host: Host,
        site: &dyn Site,
        mut request: Request,
    ) -> Response {
        if self.faults.is_refused(host) {
            let refused = Response::builder().status(StatusCode::SERVICE_UNAVAILABLE);
            return refused.header(header::CONNECTION, "close").finish();
        }
        let asked = asked(&mut request).await;
        let endpoint = site.endpoint(&asked);
        let now_ms = self.now_ms();
        let mut reply = if self.is_spent(host, site.per_minute()) {
            site.limited().weighing(0)
        } else {
            site.reply(endpoint, &asked, now_ms)
        };
        self.spend(host, reply.weight);
        let fault = self.faults.take(endpoint).unwrap_or_default();
        reply = fault.apply(reply);
        self.log.saw(Seen {
            at_ms: now_ms,
            host,
            endpoint,
            line: format!("{} {}", request.method(), request.uri()),
            body: String::from_utf8_lossy(&asked.body).into_owned(),
            user_agent: text(request.headers(), header::USER_AGENT),
            weight: reply.weight,
            status: reply.status,
        });
        if !fault.delay.is_zero() {
            tokio::time::sleep(fault.delay).await;
        }
        self.response(reply, &fault)
    }

    /// Opens a stream, unless a limit or a fault is in the way.
    pub(crate) async fn open<F>(
        self: &Arc<Self>,
        host: Host,
        stream: Endpoint,
        request: Request,
        serve: impl FnOnce(WebSocketStream) -> F + Send + Sync + 'static,
    ) -> Response
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let limits = (self.limits.connections, self.limits.connections_per_minute);
        let status = if self.faults.is_refused(host) || self.faults.refuses_stream(stream) {
            StatusCode::SERVICE_UNAVAILABLE
        } else if !self.log.may_connect(stream, self.now_ms(), limits) {
            StatusCode::TOO_MANY_REQUESTS
        } else {
            StatusCode::SWITCHING_PROTOCOLS
        };
        self.log.saw(Seen {
            at_ms: self.now_ms(),
            host,
            endpoint: stream,
            line: format!("{} {}", request.method(), request.uri()),
            body: String::new(),
            user_agent: text(request.headers(), header::USER_AGENT),
            weight: 0,
            status: status.as_u16(),
        });
        if status != StatusCode::SWITCHING_PROTOCOLS {
            return status.into();
        }
        match WebSocket::from_request_without_body(&request).await {
            Ok(socket) => socket.on_upgrade(serve).into_response(),
            Err(error) => error.into_response(),
        }
    }

    fn is_spent(&self, host: Host, per_minute: u32) -> bool {
        let now_ms = self.clock.now_ms();
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        let full = f64::from(per_minute);
        let budget = budgets.entry(host).or_insert(Budget { left: full, at_ms: now_ms });
        let gone = (now_ms - budget.at_ms).max(0) as f64 / 60_000.0;
        budget.left = (budget.left + gone * full).min(full);
        budget.at_ms = now_ms;
        budget.left < 1.0
    }

    fn spend(&self, host: Host, weight: u32) {
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(budget) = budgets.get_mut(&host) {
            budget.left -= f64::from(weight);
        }
    }

    fn response(&self, reply: Reply, fault: &Fault) -> Response {
        let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::IM_A_TEAPOT);
        let mut response = Response::builder().status(status);
        let (bytes, kind) = match reply.body {
            Body::Json(document) => (document.to_string().into_bytes(), "application/json"),
            Body::Text(text) => (text.into_bytes(), "text/plain; charset=utf-8"),
            Body::Nothing => (Vec::new(), ""),
        };
        let named = reply.headers.iter().any(|(name, _)| name == "content-type");
        if !named && !kind.is_empty() {
            response = response.header(header::CONTENT_TYPE, kind);
        }
        for (name, value) in &reply.headers {
            response = response.header(name, value);
        }
        let cut = match (fault.truncate_at, fault.stall_at) {
            (None, None) => return response.body(bytes),
            (Some(at), _) => (at, true),
            (None, Some(at)) => (at, false),
        };
        // The length says more than comes.
        let length = bytes.len().max(cut.0 + 1);
        let start = bytes.get(..cut.0.min(bytes.len())).unwrap_or_default().to_vec();
        let stop = self.shutdown.stop.clone();
        let body = stream::unfold(Some(start), move |start| {
            let stop = stop.clone();
            async move {
                if let Some(start) = start {
                    return Some((Ok(start), None));
                }
                if !cut.1 {
                    stop.cancelled().await;
                }
                Some((Err(io::Error::from(io::ErrorKind::ConnectionAborted)), None))
            }
        });
        response.header(header::CONTENT_LENGTH, length).body(poem::Body::from_bytes_stream(body))
    }
}

async fn asked(request: &mut Request) -> Asked {
    let body = request.take_body().into_bytes_limit(LONGEST_BODY).await.unwrap_or_default();
    let decode = |part: &str| {
        let text = part.replace('+', " ");
        percent_decoded(&text)
    };
    let path = request.uri().path().split('/').filter(|part| !part.is_empty()).map(percent_decoded);
    let query: BTreeMap<_, _> = request
        .uri()
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect();
    Asked {
        method: request.method().to_string(),
        path: path.collect(),
        query,
        content_type: text(request.headers(), header::CONTENT_TYPE),
        body: body.to_vec(),
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

/// Text with its `%20`s read; one that is no number stays as it is.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = (*first == b'%')
            .then(|| text.get(text.len() - tail.len()..text.len() - tail.len() + 2))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::percent_decoded;

    #[test]
    fn a_path_is_read_as_it_was_meant() {
        for (sent, meant) in [
            ("Hyperliquid%20L1", "Hyperliquid L1"),
            ("a%2Cb", "a,b"),
            ("50%", "50%"),
            ("%zz", "%zz"),
        ] {
            assert_eq!(percent_decoded(sent), meant);
        }
    }
}
