//! A private PostgreSQL server that a test may stop, start, freeze and break.
//!
//! `initdb` refuses root, so the server runs as nobody, on a unix socket in a temporary folder. Both go
//! with this process.
#![allow(dead_code, reason = "each suite uses its part")]

#[path = "folder.rs"]
mod folder;

use std::fs::{OpenOptions, Permissions};
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};

use sea_orm::Database;

use self::folder::Folder;

const NOBODY: u32 = 65_534;
const PATIENCE: Duration = Duration::from_secs(60);
/// What is not needed any more does not stay on the disk.
const SMALL: [&str; 2] = ["min_wal_size=2MB", "max_wal_size=32MB"];

/// Where `initdb` and `postgres` are.
#[derive(Clone)]
pub(crate) struct Programs(PathBuf);

impl Programs {
    /// The newest of Debian's, or wherever PATH has them. Where there are none, one line says so, or
    /// it is an error if `REQUIRE_POSTGRES` is set.
    pub(crate) fn find() -> Option<Self> {
        let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut folders: Vec<PathBuf> = debian.map(|version| version.path().join("bin")).collect();
        folders.sort();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found =
            folders.into_iter().rev().chain(std::env::split_paths(&path)).find(|folder| {
                folder.join("initdb").is_file() && folder.join("postgres").is_file()
            });
        if found.is_none() {
            say_that_nothing_runs();
        }
        found.map(Self)
    }
}

fn say_that_nothing_runs() {
    static SAID: Once = Once::new();
    let what = "PostgreSQL tests were not run: no server is installed (`apt-get install postgresql`, \
                or set TEST_DATABASE_URL)";
    assert!(std::env::var_os("REQUIRE_POSTGRES").is_none(), "{what}");
    SAID.call_once(|| {
        // Not `eprintln`, which the test harness keeps to itself.
        writeln!(std::io::stderr(), "{what}").expect("standard error");
    });
}

/// How a server is stopped.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stop {
    /// Sessions are cut off, the server ends in good order.
    Fast,
    /// The server ends at once and recovers at its next start, as after a power cut.
    Immediate,
}

pub(crate) struct PrivateServer {
    folder: Folder,
    programs: Programs,
    options: Vec<String>,
    is_root: bool,
    port: u16,
    child: Option<Child>,
}

impl PrivateServer {
    /// A new server with these settings, started; [`answers`](Self::answers) waits for it.
    pub(crate) fn new(programs: Programs, options: &[&str]) -> Self {
        let folder = Folder::new();
        let is_root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
        if is_root {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).expect("the folder is given away");
        }
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut server = Self { folder, programs, options, is_root, port: 5432, child: None };
        server.initialise();
        server.start();
        server
    }

    /// The address of a database, over the unix socket.
    pub(crate) fn url(&self, database: &str) -> String {
        let Self { port, .. } = self;
        format!("postgres://tests@localhost:{port}/{database}?host={}", self.path().display())
    }

    /// The folder of the server: a file there is readable for it.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file of the server's: below its folder, its own, and for its eyes only.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("permissions");
        if self.is_root {
            chown(&path, Some(NOBODY), Some(NOBODY)).expect("given away");
        }
        path
    }

    /// Adds settings, for the next start.
    pub(crate) fn set(&mut self, options: &[&str]) {
        self.options.extend(options.iter().map(|option| (*option).to_owned()));
    }

    /// Listens on the loopback too, from the next start. Answers the port.
    pub(crate) fn listen(&mut self) -> u16 {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        self.port = free.local_addr().expect("an address").port();
        self.options.push("listen_addresses=127.0.0.1".to_owned());
        self.port
    }

    fn initialise(&self) {
        let initdb = self
            .as_nobody(Command::new(self.programs.0.join("initdb")))
            .args(["--auth=trust", "--username=tests", "--no-sync", "--encoding=UTF8"])
            .arg("--wal-segsize=1")
            .arg("-D")
            .arg(self.data())
            .current_dir(self.path())
            .output()
            .expect("initdb runs");
        assert!(initdb.status.success(), "{}", String::from_utf8_lossy(&initdb.stderr));
    }

    /// Starts it, again after a stop.
    pub(crate) fn start(&mut self) {
        let log = OpenOptions::new().append(true).create(true).open(self.path().join("log"));
        let log = log.expect("a log");
        let mut command = self.as_nobody(Command::new(self.programs.0.join("postgres")));
        command.arg("-D").arg(self.data()).arg("-k").arg(self.path());
        command.args(["-p", &self.port.to_string(), "-c", "listen_addresses="]);
        for option in SMALL.into_iter().chain(self.options.iter().map(String::as_str)) {
            command.args(["-c", option]);
        }
        let child = command
            .current_dir(self.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("the server starts");
        self.child = Some(child);
    }

    /// Waits until it answers.
    pub(crate) async fn answers(&self) {
        let began = Instant::now();
        while let Err(error) = Database::connect(self.url("postgres")).await {
            assert!(began.elapsed() < PATIENCE, "no answer: {error}\n{}", self.log());
            tokio::task::yield_now().await;
        }
    }

    /// Stops it and waits for its end.
    pub(crate) fn stop(&mut self, stop: Stop) {
        let signal = match stop {
            Stop::Fast => "INT",
            Stop::Immediate => "QUIT",
        };
        let mut child = self.child.take().expect("it runs");
        send(signal, child.id());
        let began = Instant::now();
        while child.try_wait().expect("waited").is_none() {
            assert!(began.elapsed() < PATIENCE, "it does not stop: {}", self.log());
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Kills one of its sessions: the server ends all of them and recovers by itself.
    pub(crate) fn kill_session(&self, pid: i32) {
        let pid = u32::try_from(pid).expect("a process");
        assert!(children_of(self.postmaster()).contains(&pid), "a session of this server");
        send("KILL", pid);
    }

    /// Freezes all of its processes: connections are accepted, nothing is answered.
    pub(crate) fn freeze(&self) {
        // The one that starts others first.
        let postmaster = self.postmaster();
        send("STOP", postmaster);
        children_of(postmaster).into_iter().for_each(|pid| send("STOP", pid));
    }

    /// Lets a frozen server go on.
    pub(crate) fn thaw(&self) {
        let postmaster = self.postmaster();
        children_of(postmaster).into_iter().for_each(|pid| send("CONT", pid));
        send("CONT", postmaster);
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("log")).unwrap_or_default()
    }

    fn postmaster(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    fn as_nobody(&self, mut command: Command) -> Command {
        if self.is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        if self.child.is_some() {
            // A frozen one ends late.
            self.thaw();
            send("QUIT", self.postmaster());
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }
}

fn send(signal: &str, pid: u32) {
    // It may have ended by itself.
    let _ = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).output();
}

/// The processes whose parent is this one.
pub(crate) fn children_of(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|process| process.file_name().to_string_lossy().parse().ok())
        .filter(|pid: &u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // After the name, which may have spaces and brackets: state, parent.
            let parent_of = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1));
            parent_of.and_then(|found| found.parse().ok()) == Some(parent)
        })
        .collect()
}
