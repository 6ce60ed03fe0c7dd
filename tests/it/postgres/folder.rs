//! The folder of a private server, which goes with the process that made it, however that ends.
//!
//! A shell waits for the end of its standard input, which is the end of the process at the latest; then
//! it ends the server and removes the folder. Signals to the process's group do not reach it. Should it
//! be killed, too, the next folder that is made beside sweeps: a folder is in use as long as somebody
//! has locked it, and the kernel lets go of the locks of the dead.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const PREFIX: &str = "private-postgres-";

/// Ends the server of the folder `$0`, which may be frozen, and removes the folder. A process that only
/// has the number of a server of the past is left alone.
const END: &str = r#"
server=$(head -n 1 "$0/data/postmaster.pid" 2>/dev/null)
serves() { [ -n "$server" ] && [ "$(readlink "/proc/$server/cwd")" = "$0/data" ]; }
if serves; then kill -QUIT "$server"; kill -CONT "$server"; fi
tries=0
while serves; do
    sleep 0.05
    tries=$((tries + 1))
    if [ "$tries" -eq 400 ]; then kill -KILL "$server"; fi
done
rm -rf "$0"
"#;

pub(super) struct Folder {
    path: PathBuf,
    /// Whoever gets this lock, too, finds that nobody uses the folder.
    _lock: File,
    keeper: Child,
}

impl Folder {
    /// A new one, for this user's eyes only.
    pub(super) fn new() -> Self {
        let parent = std::env::temp_dir().canonicalize().expect("a temporary folder");
        sweep(&parent);
        let (path, lock) = loop {
            let made = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&parent);
            let path = made.expect("a temporary folder").keep();
            // Between the two another may have swept it.
            let Ok(lock) = File::open(&path) else { continue };
            lock.lock().expect("locked");
            if path.exists() {
                break (path, lock);
            }
        };
        std::fs::set_permissions(&path, Permissions::from_mode(0o700)).expect("permissions");
        let keeper = Command::new("sh")
            .args(["-c", &format!("trap '' HUP INT TERM; read -r _; {END}")])
            .arg(&path)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell starts");
        Self { path, _lock: lock, keeper }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // It ends whatever is in its way.
        let _ = self.keeper.wait();
    }
}

/// Removes the folders that nobody uses, and ends their servers.
fn sweep(parent: &Path) {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    for path in ours.map(|entry| entry.path()) {
        // Those of other users cannot be opened.
        let Ok(folder) = File::open(&path) else { continue };
        if folder.try_lock().is_ok() {
            let _ = Command::new("sh").args(["-c", END]).arg(&path).output();
        }
    }
}
