//! Commands that stay: `api` and `up`.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Runs `up` or `api` until `during` is done with its address and its output so far.
async fn serving(line: &[&str], fake: Fake, during: impl AsyncFnOnce(&str)) -> (Ran, u8) {
    let asked = Arc::clone(&fake.asked);
    let fake: Arc<dyn Arena> = Arc::new(fake);
    let connect = async |url: &DatabaseUrl| {
        fake.migrate().await?;
        assert!(url.as_str().starts_with("sqlite:"));
        Ok(Arc::clone(&fake))
    };
    let system = System { environment: &empty_environment, connect };
    let args = ["arena"].iter().chain(line).map(OsString::from);
    let Cli { shared, command } = Cli::try_parse_from(args).unwrap();
    let shutdown = Shutdown::default();
    let mut out = Channel::default();
    let lines = Arc::clone(&out.0);
    let running = async {
        match command {
            Command::Api(args) => {
                api::run(args, &shared.database_url, &system, &shutdown, &mut out).await
            }
            Command::Up(args) => {
                up::run(args, &shared.database_url, &system, &shutdown, &mut out).await
            }
            other => panic!("{other:?} does not serve"),
        }
    };
    let told = async {
        let seen = loop {
            let seen = lines.lock().unwrap().clone();
            if seen.contains("listening on ") || shutdown.stop.is_cancelled() {
                break seen;
            }
            tokio::task::yield_now().await;
        };
        during(&seen).await;
        shutdown.stop.cancel();
    };
    let (ended, ()) = tokio::join!(running, told);
    let code = ended.as_ref().map_or_else(Failure::code, |()| 0);
    let err = ended.err().map(|failure| failure.report()).unwrap_or_default();
    let (out, asked) = (lines.lock().unwrap().clone(), asked.lock().unwrap().clone());
    (Ran { code, out, err, asked }, code)
}

/// Output that another task may read while it grows.
#[derive(Default)]
struct Channel(Arc<Mutex<String>>);

impl std::io::Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().push_str(std::str::from_utf8(bytes).unwrap());
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn get(out: &str, path: &str, headers: &str) -> String {
    let address = out.rsplit_once("listening on http://").unwrap().1.trim();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn api_prints_its_address_and_the_tokens_that_it_made_and_they_work() {
    let line = ["api", "--bind", "127.0.0.1:0"];
    let (ran, code) = serving(&line, Fake::default(), async |out| {
        let token = |name: &str| {
            let line = out.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split(' ').next().unwrap().to_owned()
        };
        assert_eq!(token("API_BEARER_TOKENS=").len(), 64);
        let header = format!("X-Service-Token: {}\r\n", token("INTERNAL_SERVICE_TOKEN="));
        let answer = get(out, "/api/v1/internal/health/workers", &header).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(get(out, "/readyz", "").await.starts_with("HTTP/1.1 200"));
    })
    .await;
    assert_eq!(code, 0, "{}", ran.err);
    assert_eq!(ran.asked.last().unwrap(), "close");
}

#[tokio::test]
async fn up_serves_and_works_and_drains_before_it_closes() {
    let line = ["up", "--bind", "127.0.0.1:0", "--backtests-interval", "1s"];
    let (ran, code) = serving(&line, Fake::default(), async |out| {
        assert!(get(out, "/livez", "").await.starts_with("HTTP/1.1 200"));
    })
    .await;
    assert_eq!(code, 0, "{}", ran.err);
    assert!(ran.asked.iter().any(|asked| asked.contains("work") && asked.contains("interval: 1s")));
    assert_eq!(ran.asked[ran.asked.len() - 2..], ["drained", "close"]);
    assert!(!ran.asked.contains(&"seed".to_owned()));
}

#[tokio::test]
async fn up_demo_seeds_a_database_of_its_own() {
    let line = ["up", "--demo", "--bind", "127.0.0.1:0", "--database-url", "postgres://real/one"];
    let (ran, code) = serving(&line, Fake::default(), async |_| {}).await;
    assert_eq!(code, 0, "{}", ran.err);
    assert!(ran.asked.contains(&"seed".to_owned()), "{:?}", ran.asked);
}

#[tokio::test]
async fn when_the_workers_fail_the_whole_process_ends_and_says_why() {
    let fake = Fake { workers_fail: true, ..Fake::default() };
    let (ran, code) = serving(&["up", "--bind", "127.0.0.1:0"], fake, async |_| {}).await;
    assert_eq!(code, 1);
    assert_eq!(ran.err, "error: the clock is wrong\n");
    assert_eq!(ran.asked.last().unwrap(), "close");
}
