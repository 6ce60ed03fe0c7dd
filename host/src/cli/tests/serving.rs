//! Commands that stay: `api` and `up`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use scheduler_core::testing::Runs;
use scheduler_core::{RunStatus, Shutdown, Trigger};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Runs `up` or `api` until `during` is done with its address and its output so far; answers the
/// exit code with what was written.
async fn serving(line: &[&str], during: impl AsyncFnOnce(&str, &Arc<Mutex<String>>)) -> Ran {
    let args = ["arena"].iter().chain(line).map(OsString::from);
    let Cli { shared: SharedArgs { database_url: url, .. }, command } =
        Cli::try_parse_from(args).unwrap();
    let shutdown = Shutdown::default();
    let environment: Environment<'_> = &empty_environment;
    let mut out = Channel::default();
    let lines = Arc::clone(&out.0);
    let running = async {
        let ended = match command {
            Command::Api(args) => api::run(args, &url, environment, &shutdown, &mut out).await,
            Command::Up(args) => up::run(args, &url, environment, &shutdown, &mut out).await,
            other => panic!("{other:?} does not serve"),
        };
        shutdown.stop.cancel();
        ended
    };
    let told = async {
        let listens = |seen: &str| seen.contains("listening on ");
        if wait_for(&lines, &shutdown, listens).await {
            let seen = lines.lock().unwrap().clone();
            during(&seen, &lines).await;
        }
        shutdown.stop.cancel();
    };
    let (ended, ()) = tokio::join!(running, told);
    let code = ended.as_ref().map_or_else(Failure::code, |()| 0);
    let err = ended.err().map(|failure| failure.report()).unwrap_or_default();
    let out = lines.lock().unwrap().clone();
    Ran { code, out, err }
}

/// Waits until the output is as wanted; false when the command has ended before.
async fn wait_for(
    lines: &Mutex<String>,
    shutdown: &Shutdown,
    wanted: impl Fn(&str) -> bool,
) -> bool {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while !wanted(&lines.lock().unwrap()) {
            if shutdown.stop.is_cancelled() {
                return false;
            }
            tokio::task::yield_now().await;
        }
        true
    });
    waited.await.unwrap_or_else(|_| panic!("still: {}", lines.lock().unwrap()))
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
    let address = out.rsplit_once("listening on http://").unwrap().1;
    let address = address.split_whitespace().next().unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The token that was made for a variable.
fn token(out: &str, name: &str) -> String {
    let line = out.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split(' ').next().unwrap().to_owned()
}

#[tokio::test]
async fn api_prints_its_address_and_the_tokens_that_it_made_and_they_work() {
    let folder = Folder::new();
    let line = ["api", "--bind", "127.0.0.1:0", "--database-url", &folder.url];
    let ran = serving(&line, async |out, _| {
        assert_eq!(token(out, "API_BEARER_TOKENS=").len(), 64);
        let header = format!("X-Service-Token: {}\r\n", token(out, "INTERNAL_SERVICE_TOKEN="));
        let answer = get(out, HEALTH, &header).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains(r#""status":"down""#), "nobody works: {answer}");
        let wrong = get(out, HEALTH, "X-Service-Token: wrong\r\n").await;
        assert!(wrong.starts_with("HTTP/1.1 401"), "{wrong}");
        assert!(get(out, "/readyz", "").await.starts_with("HTTP/1.1 200"));
    })
    .await;
    ran.well();
}

const HEALTH: &str = "/api/v1/internal/health/workers";

#[tokio::test]
async fn up_serves_and_works_and_leaves_nothing_running() {
    let folder = Folder::with_bars().await;
    let graph = folder.write("graph.json", domain::strategy::DEFAULT_GRAPH_JSON);
    let submit = ["backtest", "submit", "--user", "1", "--symbol", "BTC", "--interval", "1h"];
    let submit: Vec<&str> = submit.into_iter().chain(["--graph", &graph]).collect();
    folder.arena(&submit).await.well();
    let line = ["up", "--no-ingest", "--bind", "127.0.0.1:0", "--database-url", &folder.url];
    let ran = serving(&line, async |out, _| {
        assert!(get(out, "/livez", "").await.starts_with("HTTP/1.1 200"));
        let header = format!("X-Service-Token: {}\r\n", token(out, "INTERNAL_SERVICE_TOKEN="));
        while !get(out, HEALTH, &header).await.contains(r#""status":"succeeded""#) {}
    })
    .await;
    ran.well();
    let listed = folder.arena(&["backtest", "list", "--json"]).await.json();
    assert_eq!(listed["backtests"][0]["status"], "succeeded", "{listed}");
}

#[tokio::test]
async fn a_run_that_is_asked_for_is_run_by_the_process_that_has_the_job() {
    let folder = Folder::migrated().await;
    let line = ["up", "--no-ingest", "--bind", "127.0.0.1:0", "--database-url", &folder.url];
    let mut asked = String::new();
    let ran = serving(&line, async |_, _| {
        // It is registered before the address is printed.
        let run = folder.arena(&["jobs", "run", "lifecycle_arena_entry"]).await.well();
        let taken_up = async {
            loop {
                let document = folder.arena(&["jobs", "list", "--json"]).await.json();
                let jobs = document["jobs"].as_array().unwrap();
                let entry = jobs.iter().find(|job| job["job"] == "lifecycle_arena_entry").unwrap();
                if entry["run_requested"] == Value::Null && entry["running"] == false {
                    break;
                }
                assert!([Value::Null, run.trim().into()].contains(&entry["run_requested"]));
            }
        };
        tokio::time::timeout(Duration::from_secs(60), taken_up).await.expect("it runs");
        asked = run.trim().to_owned();
    })
    .await;
    ran.well();
    let store = database::open(&folder.url.parse().unwrap()).await.unwrap();
    let runs = Runs::of(&store, "lifecycle_arena_entry").await.unwrap();
    let run = runs.rows().iter().find(|run| run.id.to_string() == asked).expect("its row");
    assert_eq!((run.trigger, run.status), (Trigger::Manual, RunStatus::Succeeded));
    database::close(store).await;
}

#[tokio::test]
async fn the_demo_has_a_database_of_its_own_and_a_line_for_each_back_test() {
    let line = ["up", "--demo", "--bind", "127.0.0.1:0", "--database-url", "sqlite:///real/one"];
    let ran = serving(&line, async |out, lines| {
        let header = format!("X-Service-Token: {}\r\n", token(out, "INTERNAL_SERVICE_TOKEN="));
        assert!(get(out, HEALTH, &header).await.starts_with("HTTP/1.1 200"));
        let all = |seen: &str| seen.matches("  trades ").count() == 5;
        wait_for(lines, &Shutdown::default(), all).await;
    })
    .await;
    let out = ran.well();
    let file = out.lines().find_map(|line| line.trim().strip_prefix("sqlite://")).unwrap();
    let folder = std::path::Path::new(file).parent().unwrap();
    assert!(!folder.exists(), "{} is deleted at the end", folder.display());
    let curl = out.lines().find(|line| line.contains("curl -H")).unwrap();
    assert!(curl.contains(&token(&out, "INTERNAL_SERVICE_TOKEN=")), "{curl}");
}

#[tokio::test]
async fn an_address_that_is_taken_is_exit_1_and_nothing_is_started() {
    let folder = Folder::migrated().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for command in [&["api"][..], &["up"], &["up", "--demo"]] {
        let more = ["--bind", &address, "--database-url", &folder.url];
        let line: Vec<&str> = command.iter().copied().chain(more).collect();
        let ran = serving(&line, async |_, _| panic!("it cannot listen")).await;
        ran.refused(1, &[&format!("cannot listen on {address}"), "caused by:"]);
    }
}
