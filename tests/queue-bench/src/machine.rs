//! What the figures were measured on.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde::Serialize;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    rustc: String,
    /// Of the folder that SQLite's files are in.
    file_system: String,
    /// The load of the last minute as the bench began.
    load_before: String,
}

impl Machine {
    pub(crate) fn look(folder: &Path) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown".to_owned(), |(_, model)| model.to_owned());
        Self {
            cpu,
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            rustc: said(Command::new("rustc").arg("--version")),
            file_system: said(Command::new("stat").args(["-f", "-c", "%T"]).arg(folder)),
            load_before: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cpu, cores, kernel, rustc, file_system, load_before } = self;
        writeln!(f, "{cpu}, {cores} cores; Linux {kernel}; {rustc}")?;
        write!(f, "files on {file_system}; load before {load_before}")
    }
}

fn said(command: &mut Command) -> String {
    let said = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&said).trim().to_owned()
}

/// The median microseconds of a small write that is on the disk.
pub(crate) fn sync_us(folder: &Path) -> std::io::Result<f64> {
    let path = folder.join("sync");
    let mut file = File::create(&path)?;
    let mut took_us = Vec::new();
    for _ in 0..21 {
        file.seek(SeekFrom::Start(0))?;
        let began = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        took_us.push(began.elapsed().as_secs_f64() * 1e6);
    }
    std::fs::remove_file(path)?;
    took_us.sort_by(f64::total_cmp);
    Ok(took_us[took_us.len() / 2])
}
