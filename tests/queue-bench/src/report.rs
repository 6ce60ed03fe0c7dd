//! The figures of all rounds: as a table, and as JSON.

use std::fmt;
use std::path::Path;

use probe::{Figure, Work};
use serde::Serialize;

use crate::arguments::{Arguments, Database};
use crate::machine::Machine;
use crate::peers::Spec;

/// The crates whose versions are stated, and the lock files that have them.
const VERSIONS: [(&str, &[&str]); 3] = [
    (
        include_str!("../Cargo.lock"),
        &[
            "scheduler-core",
            "sqlx",
            "libsqlite3-sys",
            "apalis-sqlite",
            "apalis-postgres",
            "graphile_worker",
            "apalis-cron",
            "tokio-cron-scheduler",
        ],
    ),
    (include_str!("../effectum/Cargo.lock"), &["effectum", "libsqlite3-sys"]),
    (include_str!("../sqlx-0.8/Cargo.lock"), &["fang", "underway", "sqlx"]),
];

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    versions: Vec<String>,
    /// What a server says of its settings.
    pub(crate) server: Option<String>,
    rounds: u32,
    jobs: u32,
    seconds: f64,
    /// The microseconds of a small write that is on the disk, before each kind of work.
    pub(crate) sync_us: Vec<f64>,
    pub(crate) rows: Vec<Row>,
}

/// One peer at one work.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) database: Database,
    pub(crate) work: Work,
    pub(crate) peer: &'static str,
    settings: &'static str,
    /// One per round; none where it failed.
    pub(crate) figures: Vec<Option<Figure>>,
}

impl Report {
    pub(crate) fn new(arguments: &Arguments, folder: &Path) -> anyhow::Result<Self> {
        let of = |(lock, names): (&str, &[&str])| {
            names.iter().filter_map(|name| version(lock, name)).collect::<Vec<_>>()
        };
        let mut versions: Vec<String> = VERSIONS.into_iter().flat_map(of).collect();
        versions.sort();
        versions.dedup();
        Ok(Self {
            machine: Machine::look(folder),
            versions,
            server: None,
            rounds: arguments.rounds,
            jobs: arguments.jobs,
            seconds: arguments.seconds,
            sync_us: Vec::new(),
            rows: Vec::new(),
        })
    }

    pub(crate) fn add(&mut self, spec: &Spec, work: Work, figure: Option<Figure>) {
        let is = |row: &&mut Row| {
            row.database == spec.database && row.work == work && row.peer == spec.name
        };
        if let Some(row) = self.rows.iter_mut().find(is) {
            row.figures.push(figure);
            return;
        }
        let Spec { database, name: peer, settings, .. } = *spec;
        self.rows.push(Row { database, work, peer, settings, figures: vec![figure] });
    }

    /// A peer's median as a part of the raw limit's at the same work.
    fn ratio(&self, row: &Row) -> Option<f64> {
        let raw = self.rows.iter().find(|raw| {
            raw.peer == "raw" && raw.database == row.database && raw.work == row.work
        })?;
        Some(
            row.spread(|figure| Some(figure.value))?.median
                / raw.spread(|figure| Some(figure.value))?.median,
        )
    }

    /// How many measurements there are no figures of.
    pub(crate) fn failures(&self) -> usize {
        self.rows.iter().flat_map(|row| &row.figures).filter(|figure| figure.is_none()).count()
    }

    /// What was measured, in order, each once.
    pub(crate) fn works(&self) -> Vec<(Database, Work)> {
        let mut works: Vec<(Database, Work)> = Vec::new();
        for row in &self.rows {
            if !works.contains(&(row.database, row.work)) {
                works.push((row.database, row.work));
            }
        }
        works
    }

    pub(crate) fn rows(&self, of: (Database, Work)) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| (row.database, row.work) == of)
    }
}

/// A figure over the rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Row {
    pub(crate) fn spread(&self, part: impl Fn(&Figure) -> Option<f64>) -> Option<Spread> {
        let mut values: Vec<f64> = self.figures.iter().flatten().filter_map(part).collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let upper = values[values.len() / 2];
        let median = if values.len() % 2 == 1 {
            upper
        } else {
            f64::midpoint(values[values.len() / 2 - 1], upper)
        };
        Some(Spread { median, least, most })
    }

    /// What else a reader has to know.
    fn remarks(&self) -> String {
        let mut remarks = Vec::new();
        let failed = self.figures.iter().filter(|figure| figure.is_none()).count();
        if failed > 0 {
            remarks.push(format!("failed in {failed} of {} rounds", self.figures.len()));
        }
        if let Some(p99) = self.spread(|figure| figure.p99) {
            remarks.push(format!("p99 {} ms ({})", number(p99.median), range(p99)));
        }
        if let Some(lost) = self.spread(|figure| figure.lost).filter(|lost| lost.most.abs() > 0.05)
        {
            remarks
                .push(format!("{:.1} % lost ({:.1} to {:.1})", lost.median, lost.least, lost.most));
        }
        let repeated: u64 = self.figures.iter().flatten().map(|figure| figure.repeated).sum();
        if repeated > 0 {
            remarks.push(format!("{repeated} jobs ran again"));
        }
        remarks.join("; ")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine)?;
        let Self { rounds, jobs, seconds, .. } = self;
        writeln!(
            f,
            "{rounds} rounds in turn; {jobs} jobs; enqueues for {seconds} s; median (range)"
        )?;
        let mut sync_us = self.sync_us.clone();
        sync_us.sort_by(f64::total_cmp);
        if let (Some(least), Some(most)) = (sync_us.first(), sync_us.last()) {
            let median = sync_us[sync_us.len() / 2];
            writeln!(
                f,
                "a small write is on the disk in {median:.0} µs ({least:.0} to {most:.0})"
            )?;
        }
        if let Some(server) = &self.server {
            writeln!(f, "PostgreSQL: {server}")?;
        }
        writeln!(f, "{}", self.versions.join(", "))?;
        for of in self.works() {
            let (database, work) = of;
            writeln!(f, "\n### {}\n", title(database, work))?;
            writeln!(f, "| | {} | ÷ raw | |\n|---|---:|---:|---|", unit(work))?;
            for row in self.rows(of) {
                let value =
                    row.spread(|figure| Some(figure.value)).map_or("–".to_owned(), |spread| {
                        format!("{} ({})", number(spread.median), range(spread))
                    });
                let ratio = self.ratio(row).map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
                writeln!(f, "| {} | {value} | {ratio} | {} |", row.peer, row.remarks())?;
            }
        }
        writeln!(f, "\nSettings:")?;
        let mut said = Vec::new();
        for row in &self.rows {
            if !said.contains(&(row.database, row.peer)) {
                said.push((row.database, row.peer));
                writeln!(f, "- {}, {}: {}", name(row.database), row.peer, row.settings)?;
            }
        }
        Ok(())
    }
}

pub(crate) fn title(database: Database, work: Work) -> String {
    let work = match work {
        Work::Enqueue1 => "enqueue, 1 task",
        Work::Enqueue16 => "enqueue, 16 tasks",
        Work::Bulk => "enqueue, 1,000 rows at once",
        Work::Drain10 => "drain, 10 at once",
        Work::Drain50 => "drain, 50 at once",
        Work::Pickup => "pickup by an idle worker",
        Work::Ticks => "lateness of 1,000 jobs each second",
    };
    format!("{}: {work}", name(database))
}

fn name(database: Database) -> &'static str {
    match database {
        Database::Sqlite => "SQLite",
        Database::Postgres => "PostgreSQL",
        Database::None => "Ticks",
    }
}

pub(crate) fn unit(work: Work) -> &'static str {
    match work {
        Work::Pickup | Work::Ticks => "p50, ms",
        Work::Bulk => "rows/s",
        _ => "jobs/s",
    }
}

fn range(spread: Spread) -> String {
    format!("{} to {}", number(spread.least), number(spread.most))
}

/// Three digits where there are few, groups of thousands where there are many.
pub(crate) fn number(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.2}");
    }
    if value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn version(lock: &str, name: &str) -> Option<String> {
    let package = lock
        .split("[[package]]")
        .find(|package| package.lines().any(|line| line == format!("name = \"{name}\"")))?;
    let version = package.lines().find_map(|line| line.strip_prefix("version = "))?;
    Some(format!("{name} {}", version.trim_matches('"')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_stands_between_two_figures() {
        let figure = |value| Some(Figure { value, ..Figure::default() });
        let mut row = Row {
            database: Database::Sqlite,
            work: Work::Bulk,
            peer: "raw",
            settings: "",
            figures: vec![figure(4.0), None, figure(1.0)],
        };
        let spread = row.spread(|figure| Some(figure.value));
        assert_eq!(spread, Some(Spread { median: 2.5, least: 1.0, most: 4.0 }));
        assert_eq!(row.remarks(), "failed in 1 of 3 rounds");
        row.figures = vec![None];
        assert_eq!(row.spread(|figure| Some(figure.value)), None);
    }

    #[test]
    fn numbers_are_read_at_a_glance() {
        for (value, text) in
            [(0.5, "0.50"), (12.34, "12.3"), (999.6, "1,000"), (1_234_567.0, "1,234,567")]
        {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn every_stated_version_is_in_its_lock_file() {
        for (lock, names) in VERSIONS {
            for name in names {
                assert!(version(lock, name).is_some(), "{name}");
            }
        }
    }
}
