//! One host as a child process: told what to do, frozen, killed, stopped. Every wait has a bound; a
//! host that a failed test leaves is killed.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
/// What a thread does that will do nothing more: stopped, a zombie, dead.
const STOPPED: [&str; 3] = ["T", "Z", "X"];

pub(crate) struct Host {
    child: Child,
    lines: Receiver<String>,
    log: Option<JoinHandle<String>>,
    instance: Option<String>,
}

/// The host of this version, or the copy of it that `FAULT_HOST` names.
pub(crate) fn program() -> OsString {
    let own = || OsString::from(env!("CARGO_BIN_EXE_fault-host"));
    std::env::var_os("FAULT_HOST").unwrap_or_else(own)
}

/// How a host ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// What it logged.
    pub(crate) log: String,
}

impl Host {
    /// Starts a host of this version.
    pub(crate) fn start(kind: &str, url: &str, options: &[&str]) -> Self {
        Self::start_program(&program(), kind, url, options)
    }

    /// Starts a host of another version.
    pub(crate) fn start_program(program: &OsStr, kind: &str, url: &str, options: &[&str]) -> Self {
        Self::of(Command::new(program).args([kind, url]).args(options))
    }

    pub(crate) fn of(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a host starts");
        let stdout = BufReader::new(child.stdout.take().expect("stdout"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let stderr = child.stderr.take().expect("stderr");
        let log = Some(std::thread::spawn(move || read_all(stderr)));
        Self { child, lines, log, instance: None }
    }

    /// Its instance in the database, once it has one.
    pub(crate) fn instance(&mut self) -> Option<String> {
        if self.instance.is_none() {
            let said = self.lines.try_iter().next()?;
            self.instance = said.strip_prefix("instance ").map(str::to_owned);
        }
        self.instance.clone()
    }

    /// Its instance, after it has been waited for.
    pub(crate) fn known_instance(&self) -> String {
        self.instance.clone().expect("its instance was waited for")
    }

    /// Waits for a line that begins with this word; answers what follows it.
    pub(crate) fn wait_for(&mut self, word: &str) -> String {
        self.wait_for_one_of(&[word]).1
    }

    /// Waits until the held run has tried to book; answers whether it `booked` or was `refused`.
    pub(crate) fn answer(&mut self) -> String {
        self.wait_for_one_of(&["booked", "refused"]).0
    }

    fn wait_for_one_of(&mut self, words: &[&str]) -> (String, String) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("it does not say {words:?}: {}", self.end()));
            let (said, rest) = line.split_once(' ').unwrap_or((&line, ""));
            if said == "instance" {
                self.instance = Some(rest.to_owned());
            }
            if words.contains(&said) {
                return (said.to_owned(), rest.to_owned());
            }
        }
    }

    /// Whether it says this word within a span.
    pub(crate) fn says(&mut self, word: &str, within: Duration) -> Option<String> {
        let line = self.lines.recv_timeout(within).ok()?;
        let (said, rest) = line.split_once(' ').unwrap_or((&line, ""));
        (said == word).then(|| rest.to_owned())
    }

    /// Writes one line to its standard input, also while it is frozen.
    pub(crate) fn tell(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("stdin");
        writeln!(stdin, "{line}").expect("it listens");
    }

    /// Ends its input, which is the stop.
    pub(crate) fn end_input(&mut self) {
        drop(self.child.stdin.take());
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// SIGSTOP, in force: each of its threads has stopped. One that is inside of the kernel goes on
    /// until it leaves, and takes the lock that it waits for there.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
        let deadline = Instant::now() + PATIENCE;
        while !threads(self.child.id()).iter().all(|state| STOPPED.contains(&state.as_str())) {
            assert!(Instant::now() < deadline, "it does not stop");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    /// SIGKILL. Answers what it had logged.
    pub(crate) fn kill(&mut self) -> String {
        self.child.kill().expect("killed");
        self.child.wait().expect("waited");
        self.log.take().and_then(|log| log.join().ok()).unwrap_or_default()
    }

    /// Ends its input, waits for its graceful end, answers what it logged.
    pub(crate) fn stop(mut self) -> String {
        drop(self.child.stdin.take());
        self.ended_well()
    }

    /// SIGTERM, and the same.
    pub(crate) fn terminate(self) -> String {
        self.signal("TERM");
        self.ended_well()
    }

    fn ended_well(self) -> String {
        let Ended { status, log } = self.ended();
        assert!(status.success(), "a stopped host ends well, not with {status}: {log}");
        log
    }

    /// Waits for its end.
    pub(crate) fn ended(mut self) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("waited") {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.end());
            std::thread::park_timeout(Duration::from_millis(5));
        };
        let log = self.log.take().and_then(|log| log.join().ok()).unwrap_or_default();
        Ended { status, log }
    }

    /// Ends it for the message of a failed test.
    fn end(&mut self) -> String {
        if self.log.is_some() { self.kill() } else { String::new() }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The states of a process's threads, as `ps` shows them.
fn threads(pid: u32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it lives").flatten();
    // One that ends meanwhile has no state any more.
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
    // After the name, which may have spaces and brackets.
    stats
        .filter_map(|stat| stat.rsplit_once(") ")?.1.split(' ').next().map(str::to_owned))
        .collect()
}

fn read_all(mut stderr: ChildStderr) -> String {
    let mut text = Vec::new();
    // What was read before a failure is still worth showing.
    let _ = stderr.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}
