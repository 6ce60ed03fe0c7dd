//! The client against a model server on this machine: slow, malformed, refusing, limiting, long.

use std::sync::Mutex;

use scheduler_core::SystemClock;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::decisions::Snapshot;
use crate::strategy::default_graph;

/// A server that plays `(status, headers, body)` in order, the last again and again, and keeps
/// what it was asked. An empty status is silence.
struct Model {
    base_url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

type Answer = (&'static str, &'static str, String);

impl Model {
    async fn plays(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut turn = 0;
            while let Ok((stream, _)) = listener.accept().await {
                let answer = answers[turn.min(answers.len() - 1)].clone();
                turn += 1;
                tokio::spawn(serve(stream, answer, Arc::clone(&log)));
            }
        });
        Self { base_url, asked }
    }

    fn client(&self) -> LanguageModel {
        let options = LanguageModelOptions {
            base_url: self.base_url.clone(),
            model: "m-1".into(),
            key: Some(Secret::new("sk-very-secret")),
            prices: Prices { tokens_in: Decimal::from(3), tokens_out: Decimal::from(15) },
            per_minute: 600,
        };
        LanguageModel::new(options, Arc::new(SystemClock)).unwrap()
    }

    async fn decides(&self) -> Answered {
        self.client().decide(&request(), Duration::from_secs(20)).await
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, answer: Answer, log: Arc<Mutex<Vec<String>>>) {
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    let whole = |request: &[u8]| {
        let text = String::from_utf8_lossy(request).to_ascii_lowercase();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length = head.split("content-length: ").nth(1)?.split("\r\n").next()?;
        (body.len() >= length.parse().ok()?).then_some(())
    };
    while whole(&request).is_none() {
        match stream.read(&mut chunk).await {
            Ok(read) if read > 0 => request.extend_from_slice(&chunk[..read]),
            _ => return,
        }
    }
    log.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
    let (status, headers, body) = answer;
    if status.is_empty() {
        std::future::pending::<()>().await;
    }
    let text = format!(
        "HTTP/1.1 {status}\r\n{headers}connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(text.as_bytes()).await;
}

fn request() -> DecisionRequest {
    DecisionRequest { clone_id: 42, graph: default_graph(), snapshot: Snapshot::default() }
}

fn completion(content: &str) -> Answer {
    let body = json!({
        "model": "m-1-2026", "choices": [{ "finish_reason": "stop", "message": { "content": content } }],
        "usage": { "prompt_tokens": 1_000, "completion_tokens": 100 },
    });
    ("200 OK", "", body.to_string())
}

const HOLD: &str = r#"{"action":"hold","rationale":"calm"}"#;

#[tokio::test]
async fn a_decision_is_asked_for_with_the_key_and_paid_for() {
    let model = Model::plays(vec![completion(HOLD)]).await;
    let answered = model.decides().await;
    assert_eq!(answered.output, Ok(Output::Hold { reason: "calm".into() }));
    assert_eq!(answered.model.as_deref(), Some("m-1-2026"));
    assert_eq!(answered.raw_response.as_deref(), Some(HOLD));
    // 1,000 × 3 $ + 100 × 15 $ per million.
    assert_eq!(answered.usage.cost_usd, Decimal::new(45, 4));
    let asked = model.asked();
    assert!(asked[0].starts_with("POST /v1/chat/completions HTTP/1.1"), "{}", asked[0]);
    assert!(asked[0].contains("authorization: Bearer sk-very-secret"));
    let shown = format!("{:?}", model.client());
    assert!(!shown.contains("very-secret"), "{shown}");
}

#[tokio::test]
async fn a_host_without_schemas_is_asked_for_plain_json_once_and_for_all() {
    let error = json!({"error": {"message": "response_format json_schema is not supported", "type": "invalid_request_error", "code": null}});
    let no_schema = ("400 Bad Request", "", error.to_string());
    let model = Model::plays(vec![no_schema, completion(HOLD)]).await;
    let client = model.client();
    for _ in 0..2 {
        assert!(client.decide(&request(), Duration::from_secs(20)).await.output.is_ok());
    }
    let asked = model.asked();
    let plain: Vec<bool> =
        asked.iter().map(|ask| ask.contains(r#""type":"json_object""#)).collect();
    assert_eq!(plain, [false, true, true]);
}

#[tokio::test]
async fn what_goes_wrong_is_named_and_tried_at_most_twice() {
    let check = async |answers: Vec<Answer>, expected: &str, asked: usize| {
        let model = Model::plays(answers).await;
        let error = model.decides().await.output.unwrap_err();
        let text = format!("{error:?}");
        assert!(text.starts_with(expected), "{text}");
        assert!(!text.contains("very-secret"));
        assert_eq!(model.asked().len(), asked, "{text}");
    };
    // A host that repeats the key that it does not know, where its answer is cut off.
    let repeats = format!("{} key sk-very-secret", "no ".repeat(62));
    check(vec![("401 Unauthorized", "", repeats)], "Refused", 1).await;
    let page = || ("502 Bad Gateway", "", "<html>".to_owned());
    check(vec![page()], "Unavailable", 2).await;
    check(
        vec![("401 Unauthorized", "", r#"{"error":{"message":"bad key"}}"#.into())],
        "Refused",
        1,
    )
    .await;
    check(vec![("200 OK", "", "{\"choices\":".into())], "Malformed", 2).await;
    let limited = ("429 Too Many Requests", "retry-after: 30\r\n", "null".to_owned());
    check(vec![limited], "RateLimited { retry_after: Some(30s) }", 1).await;
    check(vec![completion("buy!")], "Malformed", 1).await;
    check(vec![("200 OK", "", " ".repeat(300 << 10))], "Malformed", 1).await;
    let mended = Model::plays(vec![page(), completion(HOLD)]).await;
    assert!(mended.decides().await.output.is_ok());
}

#[tokio::test]
async fn nobody_waits_longer_than_the_limit() {
    let check = async |answer: Answer| {
        let model = Model::plays(vec![answer]).await;
        let limit = Duration::from_millis(100);
        let output = model.client().decide(&request(), limit).await.output;
        assert_eq!(output, Err(ProviderError::Timeout { limit }));
    };
    check(("", "", String::new())).await;
}
