//! Refusals and failures: their shape, and what they must not tell.

use std::io;
use std::time::Duration;

use poem::http::{Method, StatusCode};
use poem::test::TestClient;
use poem::{Body, IntoEndpoint, Route, handler};

use super::*;
use crate::api::guard::{Limits, guard};
use crate::api::openapi_document;

#[tokio::test]
async fn an_unknown_path_and_a_wrong_method_are_problems() {
    let client = client(Source::default());
    for path in ["/", "/nothing", "/api/v1/nothing", "/livez/", "/docs/x", "/%00"] {
        check_problem(client.get(path).send().await, StatusCode::NOT_FOUND).await;
    }
    check_problem(client.get("/%ff").send().await, StatusCode::BAD_REQUEST).await;
    for path in ["/livez", "/readyz", HEALTH] {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            let response = client.request(method, path).send().await;
            response.assert_header("allow", "GET, HEAD");
            check_problem(response, StatusCode::METHOD_NOT_ALLOWED).await;
        }
        let head = client.head(path).send().await;
        assert_ne!(head.0.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}

#[test]
fn the_allow_header_is_true_for_every_route_of_the_document() {
    let document: Value = serde_json::from_str(&openapi_document()).unwrap();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let methods: Vec<&String> = operations.as_object().unwrap().keys().collect();
        assert_eq!(methods, ["get"], "{path}: teach `problem::of_response` its methods");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_with_and_without_its_length() {
    let client = client(Source::default());
    let large = vec![b'x'; 64 * 1024 + 1];
    let exact = vec![b'x'; 64 * 1024];
    let announced = client.post("/livez").header("content-length", large.len()).body(large.clone());
    let detail = check_problem(announced.send().await, StatusCode::PAYLOAD_TOO_LARGE).await;
    assert_eq!(detail, "a request body may have 65536 bytes");
    let chunked = client.post("/livez").body(Body::from_async_read(io::Cursor::new(large)));
    check_problem(chunked.send().await, StatusCode::PAYLOAD_TOO_LARGE).await;
    let fits = client.post("/livez").body(Body::from_async_read(io::Cursor::new(exact)));
    check_problem(fits.send().await, StatusCode::METHOD_NOT_ALLOWED).await;
}

#[handler]
fn panics() -> &'static str {
    panic!("the password is hunter2")
}

#[handler]
fn fails() -> poem::Result<()> {
    Err(poem::error::InternalServerError(io::Error::other("cannot open /srv/secret")))
}

#[handler]
fn refuses() -> poem::Result<()> {
    Err(poem::Error::from_string("`limit` is 0: expected 1 or more", StatusCode::BAD_REQUEST))
}

#[handler]
fn answers_plainly() -> Response {
    Response::builder().status(StatusCode::CONFLICT).body("plain")
}

#[handler]
async fn hangs() {
    std::future::pending::<()>().await;
}

fn guarded(limits: Limits) -> TestClient<impl Endpoint<Output = Response>> {
    let routes = Route::new()
        .at("/panics", panics)
        .at("/fails", fails)
        .at("/refuses", refuses)
        .at("/plain", answers_plainly)
        .at("/hangs", hangs)
        .into_endpoint();
    TestClient::new(guard(routes, limits))
}

#[tokio::test]
async fn whatever_a_handler_does_the_answer_is_a_problem_and_leaks_nothing() {
    let client = guarded(Limits::default());
    let check = async |path: &str, status: StatusCode, expected: &str| {
        let response = client.get(path).send().await;
        assert_eq!(check_problem(response, status).await, expected, "{path}");
    };
    check("/panics", StatusCode::INTERNAL_SERVER_ERROR, "").await;
    check("/fails", StatusCode::INTERNAL_SERVER_ERROR, "").await;
    check("/refuses", StatusCode::BAD_REQUEST, "`limit` is 0: expected 1 or more").await;
    check("/plain", StatusCode::CONFLICT, "").await;
}

#[tokio::test]
async fn a_handler_that_hangs_and_a_body_that_does_not_come_are_given_up() {
    let time = Duration::from_millis(20);
    let client = guarded(Limits { time, ..Limits::default() });
    let detail =
        check_problem(client.get("/hangs").send().await, StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(detail, "the answer took longer than 20ms");
    let (_open, never) = tokio::io::duplex(8);
    let request = client.post("/refuses").body(Body::from_async_read(never));
    let detail = check_problem(request.send().await, StatusCode::REQUEST_TIMEOUT).await;
    assert_eq!(detail, "the body took longer than 20ms");
}
