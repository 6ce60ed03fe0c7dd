//! The OpenAPI document and its page.

use super::*;
use crate::api::openapi_document;

#[tokio::test]
async fn the_docs_page_loads_nothing_from_outside() {
    let response = client(Source::default()).get("/docs").send().await;
    response.assert_status_is_ok();
    response.assert_content_type("text/html; charset=utf-8");
    let policy = response.0.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    for source in policy.split(['\u{20}', ';']).filter(|word| !word.is_empty()) {
        assert!(!source.contains("://") && source != "*" && source != "https:", "{policy}");
    }
    let page = response.0.into_body().into_string().await.unwrap();
    assert!(page.contains("SwaggerUIBundle({"));
    assert!(page.contains("/api/v1/internal/health/workers"), "the document is in the page");
    // What stands before and after the bundle is markup; the bundle itself builds no tag at load.
    for tag in ["<script", "<link", "<img", "<iframe", "<source", "<object", "<embed"] {
        for (at, _) in page.match_indices(tag) {
            let tag: String = page[at..].chars().take_while(|c| *c != '>').take(300).collect();
            for attribute in ["src=\"http", "src='http", "src=\"//", "href=\"http", "href=\"//"] {
                assert!(!tag.contains(attribute), "{tag}");
            }
        }
    }
    assert!(!page.contains("@import"));
    assert!(!page.contains("url(http") && !page.contains("url(\"http") && !page.contains("url(//"));
}

#[tokio::test]
async fn the_document_is_served_as_it_is_checked_in() {
    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    let checked_in = std::fs::read_to_string(FILE).unwrap_or_default();
    let document = openapi_document();
    assert!(
        document == checked_in,
        "host/openapi.json has drifted; write it anew with\n  \
         cargo run -p host -- openapi > host/openapi.json\nand look at the difference"
    );
    let response = client(Source::default()).get("/openapi.json").send().await;
    response.assert_content_type("application/json");
    assert_eq!(response.0.into_body().into_string().await.unwrap(), document.trim_end());
}
