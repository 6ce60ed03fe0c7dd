//! One child process and what a test asks of it. Every wait has a bound; a child that a failed
//! test leaves is killed.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) const SERVICE_TOKEN: &str = "a-service-token-for-tests-only";
const BEARER_TOKEN: &str = "a-bearer-token-for-tests-only";
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(25);

pub(crate) struct Arena {
    child: RefCell<Child>,
    address: String,
    lines: Receiver<String>,
    stderr: RefCell<Option<JoinHandle<String>>>,
}

/// How a child ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stderr: String,
}

/// An HTTP answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Arena {
    /// Starts a command that serves HTTP, and waits until it says where.
    pub(crate) fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut arena = Self::start_quietly(folder, arguments);
        let line = arena.wait_for_line(PATIENCE, |line| line.contains("listening on http://"));
        let (_, address) = line.split_once("http://").expect("an address");
        arena.address = address.split_whitespace().next().expect("an address").to_owned();
        arena
    }

    /// Starts a command that serves nothing.
    pub(crate) fn start_quietly(folder: &Path, arguments: &[&str]) -> Self {
        Self::start_with(folder, arguments, &[])
    }

    /// The same with more in its environment.
    pub(crate) fn start_with(
        folder: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_arena-under-test"))
            .args(arguments)
            .current_dir(folder)
            .env("DATABASE_URL", "sqlite://arena.db")
            .env("ARENA_BIND", "127.0.0.1:0")
            .env("INTERNAL_SERVICE_TOKEN", SERVICE_TOKEN)
            .env("API_BEARER_TOKENS", BEARER_TOKEN)
            .env("BACKTESTS_INTERVAL", "1s")
            .env_remove("RUST_LOG")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the arena starts");
        let stdout = BufReader::new(child.stdout.take().expect("stdout"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let stderr = child.stderr.take().expect("stderr");
        let stderr = std::thread::spawn(move || read_all(stderr));
        Self {
            child: RefCell::new(child),
            address: String::new(),
            lines,
            stderr: RefCell::new(Some(stderr)),
        }
    }

    /// Waits for a line of stdout.
    pub(crate) fn wait_for_line(
        &self,
        patience: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> String {
        let deadline = Instant::now() + patience;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if wanted(&line) => return line,
                Ok(line) => seen.push(line),
                Err(RecvTimeoutError::Timeout) => panic!("no such line in:\n{}", seen.join("\n")),
                Err(RecvTimeoutError::Disconnected) => {
                    let stderr = self.stderr();
                    panic!("it ended; stdout:\n{}\nstderr:\n{stderr}", seen.join("\n"));
                }
            }
        }
    }

    pub(crate) fn get(&self, path: &str, token: Option<&str>) -> Answer {
        self.try_get(path, token).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    fn try_get(&self, path: &str, token: Option<&str>) -> std::io::Result<Answer> {
        let mut connection = TcpStream::connect(&self.address)?;
        connection.set_read_timeout(Some(Duration::from_secs(15)))?;
        let token = token.map(|token| format!("X-Service-Token: {token}\r\n")).unwrap_or_default();
        let host = &self.address;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{token}Connection: close\r\n\r\n");
        connection.write_all(request.as_bytes())?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        status
            .zip(body)
            .map(|(status, body)| Answer { status, body })
            .ok_or_else(|| std::io::Error::other(format!("not an answer: {answer}")))
    }

    /// Waits until a path answers with a status.
    pub(crate) fn wait_until(&self, path: &str, status: u16) {
        self.wait(path, || {
            let answer = self.try_get(path, None).ok()?;
            (answer.status == status).then_some(())
        });
    }

    /// The health of the workers.
    pub(crate) fn health(&self) -> Value {
        let answer = self.get("/api/v1/internal/health/workers", Some(SERVICE_TOKEN));
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).expect("JSON")
    }

    /// Waits until a worker has a status; answers the health then.
    pub(crate) fn wait_for_worker(&self, worker: &str, status: &str) -> Value {
        self.wait(&format!("{worker} {status}"), || {
            let health = self.health();
            let workers = health["workers"].as_array()?.clone();
            workers
                .iter()
                .any(|found| found["worker"] == worker && found["status"] == status)
                .then_some(health)
        })
    }

    /// Waits until a source has written rows.
    pub(crate) fn wait_until_rows_of(&self, source: &str) {
        self.wait(&format!("rows of {source}"), || {
            let answer = self.try_get("/api/v1/ingestion/dashboard", None).ok()?;
            let dashboard: Value = serde_json::from_str(&answer.body).ok()?;
            let sources = dashboard["sources"].as_array()?;
            let found = sources.iter().find(|found| found["source"] == source)?;
            (found["rows_written_24h"].as_i64()? > 0).then_some(())
        });
    }

    fn wait<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < deadline, "waited in vain for {what}");
            std::thread::park_timeout(PAUSE);
        }
    }

    /// SIGTERM, and the end.
    pub(crate) fn terminate(&self) -> Ended {
        let pid = self.child.borrow().id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        assert!(sent.success());
        self.wait("the process to end", || self.child.borrow_mut().try_wait().expect("waited"));
        let code = self.child.borrow_mut().wait().expect("waited").code();
        Ended { code, stderr: self.stderr() }
    }

    /// SIGKILL.
    pub(crate) fn kill(&self) {
        self.child.borrow_mut().kill().expect("killed");
        self.child.borrow_mut().wait().expect("waited");
    }

    fn stderr(&self) -> String {
        let reader = self.stderr.borrow_mut().take();
        reader.and_then(|reader| reader.join().ok()).unwrap_or_default()
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.borrow_mut().kill();
        let _ = self.child.borrow_mut().wait();
    }
}

fn read_all(mut stderr: ChildStderr) -> String {
    let mut text = Vec::new();
    // What was read before a failure is still worth showing.
    let _ = stderr.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}
