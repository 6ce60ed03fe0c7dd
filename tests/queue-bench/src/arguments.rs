//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use probe::Work;
use serde::Serialize;

use crate::peers::{self, Spec};

/// Measures scheduler-core, its peers and the raw limits on SQLite and PostgreSQL in one run.
#[derive(Debug, Clone, Parser)]
#[command(name = "queue-bench", version)]
pub(crate) struct Arguments {
    /// Which databases; both unless one is named.
    #[arg(value_enum)]
    databases: Vec<Database>,
    /// How many jobs wait when a drain begins; peers that need long for them get fewer.
    #[arg(long, default_value_t = 40_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) jobs: u32,
    /// How often everything is measured, in turn.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// How many seconds an enqueue is measured; a drain, at most three times, ticks four times as long.
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// What is measured; all unless something is named.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Who is measured; all unless somebody is named.
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(peers::names()))]
    peers: Vec<String>,
    /// A server to measure instead of a private one; databases are made and dropped there.
    #[arg(long, value_name = "URL", value_parser = server_address)]
    pub(crate) database_url: Option<String>,
    /// Writes the figures of every round there.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Draws the medians and ranges there.
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Database {
    Sqlite,
    Postgres,
    /// Ticks, which touch none.
    #[value(skip)]
    None,
}

/// A part of the bench, as `--only` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Enqueue,
    Bulk,
    Drain,
    Pickup,
    Ticks,
}

impl Arguments {
    /// What is measured in turn, ticks last.
    pub(crate) fn databases(&self) -> Vec<Database> {
        let mut wanted = self.databases.clone();
        if wanted.is_empty() {
            wanted = vec![Database::Sqlite, Database::Postgres];
        }
        wanted.dedup();
        wanted.push(Database::None);
        wanted.retain(|database| !self.work(*database).is_empty());
        wanted
    }

    /// What is measured on a database.
    pub(crate) fn work(&self, database: Database) -> Vec<Work> {
        let parts: &[(Part, &[Work])] = match database {
            Database::None => &[(Part::Ticks, &[Work::Ticks])],
            _ => &[
                (Part::Enqueue, &[Work::Enqueue1, Work::Enqueue16]),
                (Part::Bulk, &[Work::Bulk]),
                (Part::Drain, &[Work::Drain10, Work::Drain50]),
                (Part::Pickup, &[Work::Pickup]),
            ],
        };
        let wanted =
            parts.iter().filter(|(part, _)| self.only.is_empty() || self.only.contains(part));
        wanted.flat_map(|(_, work)| work.iter().copied()).collect()
    }

    /// Who is measured on a database.
    pub(crate) fn peers(&self, database: Database) -> Vec<&'static Spec> {
        let named =
            |spec: &&Spec| self.peers.is_empty() || self.peers.iter().any(|name| name == spec.name);
        peers::PEERS.iter().filter(|spec| spec.database == database).filter(named).collect()
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number from 0.1 to 600".to_owned()),
    }
}

fn server_address(text: &str) -> Result<String, String> {
    let options = text.parse::<sqlx::postgres::PgConnectOptions>();
    options.map(|_| text.to_owned()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Arguments, clap::Error> {
        let words = words.split(' ').filter(|word| !word.is_empty());
        Arguments::try_parse_from(std::iter::once("queue-bench").chain(words))
    }

    #[test]
    fn one_part_on_one_database_is_all_that_is_measured() {
        let arguments = parse("sqlite --only bulk --peers raw").expect("they are right");
        assert_eq!(arguments.databases(), [Database::Sqlite]);
        assert_eq!(arguments.work(Database::Sqlite), [Work::Bulk]);
        let peers: Vec<_> = arguments.peers(Database::Sqlite).iter().map(|p| p.name).collect();
        assert_eq!(peers, ["raw"]);
    }

    #[test]
    fn without_arguments_everything_is_measured() {
        let databases = parse("").expect("they are right").databases();
        assert_eq!(databases, [Database::Sqlite, Database::Postgres, Database::None]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (words, named) in [
            ("mysql", "mysql"),
            ("--only sleep", "sleep"),
            ("--peers nobody", "nobody"),
            ("--rounds 0", "--rounds"),
            ("--seconds fast", "--seconds"),
            ("--jobs many", "--jobs"),
        ] {
            let error = parse(words).expect_err(words);
            assert!(error.to_string().contains(named), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
