//! On which file system a database file lies, and whether SQLite can work there.
//!
//! SQLite's locks and the shared memory of its WAL belong to one machine. On a file system that other
//! machines share they may hold for none of them, and the file is damaged in silence.

use std::path::{Path, PathBuf};

/// File systems that reach over a network, as the kernel names them.
const NETWORK: [&str; 18] = [
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "davfs",
    "gfs2",
    "glusterfs",
    "gpfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "ocfs2",
    "orangefs",
    "smb3",
    "smbfs",
];

/// What the part after `fuse.` begins with where a program in user space reaches over a network.
const NETWORK_FUSE: [&str; 18] = [
    "blobfuse",
    "ceph",
    "curlftpfs",
    "davfs",
    "gcsfuse",
    "glusterfs",
    "goofys",
    "grpcfuse",
    "juicefs",
    "mfs",
    "moosefs",
    "mount-s3",
    "rclone",
    "s3fs",
    "s3ql",
    "seaweedfs",
    "smbnetfs",
    "sshfs",
];

/// The type of the file system that holds this file, if it reaches over a network. `None` also where
/// the system does not say (anything but Linux).
pub(super) fn network_file_system_of(file: &Path) -> Option<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let file_system = file_system_of(&mounts, &real_path(file)?)?;
    reaches_over_a_network(file_system).then(|| file_system.to_owned())
}

/// Where the file lies, or will lie, behind every symbolic link.
fn real_path(file: &Path) -> Option<PathBuf> {
    if let Ok(path) = file.canonicalize() {
        return Some(path);
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new(".")).canonicalize().ok()
}

/// The type of the file system that is mounted at or above `path`, from the text of
/// `/proc/self/mountinfo`.
fn file_system_of<'m>(mounts: &'m str, path: &Path) -> Option<&'m str> {
    let mut nearest = None;
    for (mount_point, file_system) in mounts.lines().filter_map(parse) {
        if !path.starts_with(&mount_point) {
            continue;
        }
        let depth = mount_point.components().count();
        // Of several at one place the last is on top.
        if nearest.is_none_or(|(deepest, _)| depth >= deepest) {
            nearest = Some((depth, file_system));
        }
    }
    nearest.map(|(_, file_system)| file_system)
}

/// Mount point and type of one line: `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`.
fn parse(line: &str) -> Option<(PathBuf, &str)> {
    let (mount, source) = line.split_once(" - ")?;
    let mount_point = mount.split(' ').nth(4)?;
    let file_system = source.split(' ').next().filter(|word| !word.is_empty())?;
    Some((PathBuf::from(unescaped(mount_point)), file_system))
}

/// Spaces, tabs, line breaks and backslashes stand as `\040`, `\011`, `\012`, `\134`.
fn unescaped(text: &str) -> String {
    let escapes = [(r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", r"\")];
    escapes.iter().fold(text.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
}

fn reaches_over_a_network(file_system: &str) -> bool {
    match file_system.strip_prefix("fuse.") {
        Some(program) => NETWORK_FUSE.iter().any(|network| program.starts_with(network)),
        None => NETWORK.contains(&file_system),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{file_system_of, network_file_system_of, reaches_over_a_network};

    const MOUNTS: &str = r"
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
23 22 0:21 / /proc rw,nosuid shared:5 - proc proc rw
40 22 0:40 / /srv/shared rw,relatime shared:20 - nfs4 filer:/export rw,vers=4.2
41 40 254:2 / /srv/shared/local rw,relatime - xfs /dev/vdb1 rw
42 22 0:42 / /mnt/my\040share rw,relatime master:3 propagate_from:2 - cifs //filer/share rw
43 22 0:43 / /media/box rw,nosuid - fuse.sshfs me@box: rw,user_id=0
44 22 0:44 / /media/stick rw,nosuid - fuseblk /dev/sdb1 rw
45 22 0:45 / /media/merged rw - fuse.mergerfs a:b rw
46 22 0:46 / /host rw,relatime - 9p hostshare rw,trans=virtio
47 22 0:47 / /over rw,relatime - ext4 /dev/vdc1 rw
48 47 0:48 / /over rw,relatime - nfs filer:/over rw
not a line of the kernel
";

    #[track_caller]
    fn check(path: &str, expected: &str, is_refused: bool) {
        let file_system = file_system_of(MOUNTS, Path::new(path)).expect("a mount");
        assert_eq!(
            (file_system, reaches_over_a_network(file_system)),
            (expected, is_refused),
            "{path}"
        );
    }

    #[test]
    fn a_file_lies_on_the_nearest_mount_above_it() {
        check("/var/lib/arena.db", "ext4", false);
        check("/srv/shared/arena.db", "nfs4", true);
        check("/srv/shared", "nfs4", true);
        check("/srv/shared-not/arena.db", "ext4", false);
        check("/srv/shared/local/arena.db", "xfs", false);
        check("/mnt/my share/arena.db", "cifs", true);
        check("/media/box/a/b/arena.db", "fuse.sshfs", true);
        check("/media/stick/arena.db", "fuseblk", false);
        check("/media/merged/arena.db", "fuse.mergerfs", false);
        check("/host/arena.db", "9p", true);
        check("/over/arena.db", "nfs", true);
    }

    #[test]
    fn a_text_that_says_nothing_refuses_nothing() {
        for text in ["", "\n\n", "36 35 98:0 / / rw -", "36 35 98:0 - ext4", " - "] {
            assert_eq!(file_system_of(text, Path::new("/a.db")), None, "{text:?}");
        }
    }

    #[test]
    fn the_file_need_not_be_there_yet_and_a_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link.db");
        let file = folder.path().join("new.db");
        assert_eq!(super::real_path(&file).unwrap(), folder.path().canonicalize().unwrap());
        std::fs::write(&file, "").unwrap();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&file, &link).unwrap();
            assert_eq!(super::real_path(&link), file.canonicalize().ok());
        }
        // Temporary files of a machine that builds lie on a disk of its own.
        assert_eq!(network_file_system_of(&file), None);
        assert_eq!(super::real_path(Path::new("/no/such/folder/a.db")), None);
    }
}
