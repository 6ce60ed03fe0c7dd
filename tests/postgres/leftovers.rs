//! What tests leave when their process is killed: nothing for long.

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::postgres::server::{Programs, children_of};

const PATIENCE: Duration = Duration::from_secs(60);
/// A new server takes less on the disk.
const MIB: u64 = 32;

/// A process that has a private server.
struct Owner {
    process: Child,
    folder: PathBuf,
    server: u32,
}

impl Owner {
    fn start(parent: &Path) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_private-postgres"))
            .env("TMPDIR", parent)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process starts");
        let mut url = String::new();
        let stdout = process.stdout.take().expect("stdout");
        BufReader::new(stdout).read_line(&mut url).expect("it says its address");
        let folder = PathBuf::from(url.trim().split_once("host=").expect("a socket").1);
        let pid = std::fs::read_to_string(folder.join("data/postmaster.pid")).expect("it runs");
        let server = pid.lines().next().and_then(|pid| pid.parse().ok()).expect("a process");
        Self { process, folder, server }
    }

    /// The shell that waits for its end.
    fn keeper(&self) -> u32 {
        let children = children_of(self.process.id());
        let mut others = children.into_iter().filter(|child| *child != self.server);
        let keeper = others.next().expect("a keeper");
        assert_eq!(others.next(), None, "nobody else");
        keeper
    }

    fn kill(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("waited");
    }

    fn has_gone(&self) -> bool {
        !self.folder.exists() && !lives(self.server)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether a process is there, and no zombie.
fn lives(pid: u32) -> bool {
    std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok()
}

fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// A folder for folders, which the servers' user may enter.
fn parent() -> TempDir {
    let parent = tempfile::tempdir().expect("a temporary folder");
    std::fs::set_permissions(parent.path(), Permissions::from_mode(0o755)).expect("permissions");
    parent
}

#[test]
fn a_server_and_its_folder_go_with_a_process_that_is_killed() {
    if Programs::find().is_none() {
        return;
    }
    let parent = parent();
    for is_frozen in [false, true] {
        let mut owner = Owner::start(parent.path());
        let bytes = size(&owner.folder);
        assert!(bytes < MIB << 20, "a new server takes {bytes} bytes");
        if is_frozen {
            signal("STOP", owner.server);
        }
        owner.kill();
        until("the server and its folder go", || owner.has_gone());
    }
}

#[test]
fn what_was_left_when_everything_was_killed_goes_when_the_next_server_is_made() {
    if Programs::find().is_none() {
        return;
    }
    let parent = parent();
    let mut killed = Owner::start(parent.path());
    let living = Owner::start(parent.path());
    signal("KILL", killed.keeper());
    killed.kill();
    assert!(killed.folder.exists() && lives(killed.server), "nobody is left to remove it");

    let mut next = Owner::start(parent.path());
    assert!(killed.has_gone(), "it was swept before the next was made");
    assert!(living.folder.exists() && lives(living.server), "others are left alone");
    drop(next.process.stdin.take());
    assert!(next.process.wait().expect("waited").success());
    assert!(next.has_gone(), "in good order, it goes before its process ends");
}

/// What the files below take.
fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    // A file of a living server may go meanwhile.
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(of) if of.is_dir() => size(&entry.path()),
        Ok(of) => of.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}
