//! Middleware around handlers, in the manner of tower: a handler is a service, and layers stand
//! around it.

use std::future::poll_fn;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use sea_orm::FromQueryResult;
use tower_layer::Layer;
use tower_service::Service;

use super::handler::{HandleError, Handled, Handler, QueueContext};
use crate::job::JobError;

/// A row and what its handler is told about it.
#[derive(Debug, Clone)]
pub struct RowRequest<R> {
    /// The row.
    pub row: R,
    /// What to know of it.
    pub context: QueueContext,
}

/// A [`Handler`] with tower layers around it, such as those of the crates `tower` and `tower-http`, or
/// your own.
///
/// What is added last is outermost: it sees a row first and its end last. A row that waits in a layer,
/// for a permit for example, keeps its lease. An error of a layer's own is tried again like one of the
/// handler's, and what the handler said of its error ([`HandleError::permanent`],
/// [`HandleError::retry_after`]) survives a layer that wraps it as its source.
///
/// A layer that drops the handler at a timeout ends it at any `.await`;
/// [`ConsumerOptions::timeout`](super::ConsumerOptions::timeout) asks it first.
///
/// ```
/// use std::task::{Context, Poll};
/// use scheduler_core::queue::{Handled, HandleError, Handler, Layered, RowRequest};
/// use scheduler_core::queue::{JobRow, QueueContext};
/// use tower_service::Service;
///
/// struct Mailer;
///
/// #[async_trait::async_trait]
/// impl Handler for Mailer {
///     type Row = JobRow;
///     async fn handle(&self, row: JobRow, _: QueueContext) -> Result<Handled, HandleError> {
///         println!("mail {}", row.id);
///         Ok(Handled::Done(None))
///     }
/// }
///
/// /// Says which row comes.
/// #[derive(Clone)]
/// struct Announced<S>(S);
///
/// impl<S: Service<RowRequest<JobRow>>> Service<RowRequest<JobRow>> for Announced<S> {
///     type Response = S::Response;
///     type Error = S::Error;
///     type Future = S::Future;
///
///     fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
///         self.0.poll_ready(cx)
///     }
///
///     fn call(&mut self, request: RowRequest<JobRow>) -> S::Future {
///         println!("row {}, attempt {}", request.context.id(), request.context.attempt());
///         self.0.call(request)
///     }
/// }
///
/// let handler = Layered::new(Mailer).layer(tower_layer::layer_fn(Announced));
/// # fn is_handler(_: impl Handler) {} is_handler(handler);
/// ```
#[derive(Debug)]
pub struct Layered<S, R> {
    service: S,
    row: PhantomData<fn(R)>,
}

impl<H: Handler> Layered<HandlerService<H>, H::Row> {
    /// The handler without a layer.
    #[must_use]
    pub fn new(handler: H) -> Self {
        Self { service: HandlerService(Arc::new(handler)), row: PhantomData }
    }
}

impl<S, R> Layered<S, R> {
    /// Puts a layer around what there is.
    #[must_use]
    pub fn layer<L: Layer<S>>(self, layer: L) -> Layered<L::Service, R> {
        Layered { service: layer.layer(self.service), row: PhantomData }
    }
}

#[async_trait]
impl<S, R> Handler for Layered<S, R>
where
    S: Service<RowRequest<R>, Response = Handled> + Clone + Send + Sync + 'static,
    S::Error: Into<JobError>,
    S::Future: Send,
    R: FromQueryResult + Send + 'static,
{
    type Row = R;

    async fn handle(&self, row: R, context: QueueContext) -> Result<Handled, HandleError> {
        // Being ready is of one clone, so each row has its own.
        let mut service = self.service.clone();
        let ready = poll_fn(|cx| service.poll_ready(cx)).await;
        ready.map_err(|error| told_apart(error.into()))?;
        service.call(RowRequest { row, context }).await.map_err(|error| told_apart(error.into()))
    }
}

/// A [`Handler`] as a tower service: what the innermost layer is around.
#[derive(Debug)]
pub struct HandlerService<H>(Arc<H>);

impl<H> Clone for HandlerService<H> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<H: Handler> Service<RowRequest<H::Row>> for HandlerService<H>
where
    H::Row: 'static,
{
    type Response = Handled;
    type Error = ServiceError;
    type Future = BoxFuture<'static, Result<Handled, ServiceError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ServiceError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, RowRequest { row, context }: RowRequest<H::Row>) -> Self::Future {
        let handler = Arc::clone(&self.0);
        Box::pin(async move { handler.handle(row, context).await.map_err(ServiceError) })
    }
}

/// A [`HandleError`] as an error type, which layers ask for. A layer of your own makes one from a
/// `HandleError`, too.
#[derive(Debug)]
pub struct ServiceError(HandleError);

impl From<HandleError> for ServiceError {
    fn from(error: HandleError) -> Self {
        Self(error)
    }
}

impl std::fmt::Display for ServiceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.source.fmt(f)
    }
}

impl std::error::Error for ServiceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.source()
    }
}

/// What a handler said, or what a layer says with what the handler said below it.
fn told_apart(error: JobError) -> HandleError {
    let outer = match error.downcast::<ServiceError>() {
        Ok(error) => return error.0,
        Err(outer) => outer,
    };
    let causes = std::iter::successors(outer.source(), |error| error.source());
    let said = causes.filter_map(|error| error.downcast_ref::<ServiceError>()).next();
    let (permanent, retry_after) =
        said.map_or((false, None), |said| (said.0.permanent, said.0.retry_after));
    HandleError { source: outer, permanent, retry_after }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the breaker is open")]
    struct Open(#[source] ServiceError);

    #[test]
    fn what_a_handler_said_of_its_error_survives_a_layer_that_wraps_it() {
        let span = Duration::from_secs(9);
        let said = || ServiceError(HandleError::retry_after("429", span));
        let bare = told_apart(Box::new(said()));
        assert_eq!((bare.source.to_string(), bare.retry_after), ("429".to_owned(), Some(span)));
        let wrapped = told_apart(Box::new(Open(said())));
        assert_eq!(crate::executor::chain(wrapped.source.as_ref()), "the breaker is open: 429");
        assert_eq!((wrapped.permanent, wrapped.retry_after), (false, Some(span)));
        let permanent = ServiceError::from(HandleError::permanent("no such street"));
        assert!(told_apart(Box::new(Open(permanent))).permanent);
        assert!(!told_apart("the layer's own".into()).permanent);
    }
}
