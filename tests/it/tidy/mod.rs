//! Conventions that a reader relies on, as tests. A failure lists `file:line: text`.

mod source;

use self::source::{File, files, string_literals};

/// What rules must not name: they take data and answer a plan, and others do the work.
const MACHINERY: [&str; 4] = ["scheduler_core", "sea_orm", "tokio", "reqwest"];

/// Where rules live.
const RULES: [&str; 7] = [
    "domain/src/strategy/",
    "domain/src/backtesting/",
    "domain/src/market/",
    "domain/src/ingestion/",
    "domain/src/decisions/",
    "domain/src/prop/",
    "domain/src/lifecycle/",
];

/// The one file beside the rules of its module that loads, calls them and saves.
const ORCHESTRATES: [&str; 2] = ["domain/src/market/import.rs", "domain/src/market/import/"];

#[test]
fn rules_name_no_machinery() {
    let rules = rust_files(|path| starts_with_any(path, &RULES));
    let pure = rules.into_iter().filter(|file| !starts_with_any(&file.path, &ORCHESTRATES));
    none(pure, |line| MACHINERY.iter().any(|name| names(line, name)));
}

#[test]
fn one_file_uses_tokio_cron_scheduler() {
    // Benchmarks measure it.
    let uses_it = [
        "scheduler-core/src/ticker.rs",
        "scheduler-core/benches/ticks.rs",
        "tests/queue-bench/sqlx-0.9/src/ticks.rs",
    ];
    let others = rust_files(|path| !uses_it.contains(&path));
    // A log filter may name it; a path into it may not stand elsewhere.
    let uses = [concat!("tokio_cron", "_scheduler::"), concat!("use tokio_cron", "_scheduler")];
    none(others, |line| uses.iter().any(|used| line.contains(used)));
}

#[test]
fn sql_stands_in_stores_and_migrations_only() {
    let production = rust_files(|path| {
        path.contains("/src/")
            && !path.starts_with("tests/queue-bench/")
            && !path.contains("/store/")
            && !path.contains("migration/")
            && !path.ends_with("/tests.rs")
            && !path.contains("/tests/")
    });
    let mut found = Vec::new();
    for file in checked(production) {
        let shipped = file.text.split("#[cfg(test)]").next().unwrap_or_default();
        for (line, literal) in string_literals(shipped) {
            if is_sql(&literal) {
                found.push(format!("{}:{line}: {literal}", file.path));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Where a statement is made by hand: its text names no table of the library, or gets the names of the
/// store's namespace in that very file.
const MAKES_STATEMENTS: [&str; 8] = [
    "sql.rs",
    "evidence.rs",
    "instances.rs",
    "leases.rs",
    "queue.rs",
    "queue/enqueue.rs",
    "wake/file.rs",
    "wake/server.rs",
];

#[test]
fn statements_get_the_names_of_their_namespace() {
    const STORE: &str = "scheduler-core/src/store/sea_orm/";
    let others = rust_files(|path| {
        let of_store = path.strip_prefix(STORE).filter(|path| !path.ends_with("/tests.rs"));
        of_store.is_some_and(|path| !MAKES_STATEMENTS.contains(&path))
    });
    let by_hand = [concat!("Statement::", "from_"), concat!("Statement ", "{ sql")];
    none(others, |line| by_hand.iter().any(|way| line.contains(way)));
}

#[test]
fn no_file_is_longer_than_500_lines() {
    let long: Vec<String> = checked(rust_files(|_| true))
        .filter(|file| file.text.lines().count() > 500)
        .map(|file| format!("{}: {} lines", file.path, file.text.lines().count()))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn nothing_is_left_undone_or_skipped() {
    let undone = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("#[ig", "nore"),
        concat!("FIX", "ME"),
    ];
    none(rust_files(|_| true), |line| undone.iter().any(|word| line.contains(word)));
}

#[test]
fn a_migration_is_history_and_imports_no_entity() {
    let allowed = ["sea_orm::", "sea_orm_migration::", "async_trait::"];
    let migrations = rust_files(|path| {
        let name = path.rsplit('/').next().unwrap_or_default();
        path.contains("migration/") && name.starts_with("m2")
    });
    none(migrations, |line| {
        line.strip_prefix("use ").is_some_and(|used| !starts_with_any(used, &allowed))
            || line.contains("crate::")
            || names(line, "Entity")
    });
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    let roots = ["home", "root", "work", "farm", "Users"];
    none(files(&["rs", "toml", "md", "json", "run", "check"]), |line| {
        roots.iter().any(|root| {
            line.match_indices(&format!("/{root}/")).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                before.is_none_or(|c| !c.is_alphanumeric() && c != '.' && c != '$' && c != '}')
            })
        })
    });
}

#[test]
fn an_example_opens_with_the_command_that_runs_it() {
    for file in checked(rust_files(|path| path.starts_with("examples/examples/"))) {
        let name = file.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
        let command = format!("//! `cargo run -p examples --example {name}");
        assert!(file.text.starts_with(&command), "{} does not open with {command}`", file.path);
    }
}

#[test]
fn every_path_that_a_document_names_is_there() {
    let root = source::root();
    let mut missing = Vec::new();
    for file in checked(files(&["md"]).filter(|file| !file.path.contains('/'))) {
        for (number, line) in file.text.lines().enumerate() {
            for path in linked_paths(line).chain(quoted_paths(line)) {
                if !root.join(path).exists() {
                    missing.push(format!("{}:{}: {path}", file.path, number + 1));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// Targets of Markdown links into the repository, without their anchors.
fn linked_paths(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| {
        let path = rest.split_once(')')?.0.split('#').next()?;
        (!path.is_empty() && !path.contains("://")).then_some(path)
    })
}

/// Words in backticks that are paths of source files, as in `domain/src/lib.rs`.
fn quoted_paths(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2).filter(|word| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "/_.-".contains(c);
        word.contains('/')
            && word.chars().all(plain)
            && [".rs", ".toml", ".json", "/"].iter().any(|end| word.ends_with(end))
            && !word.starts_with(['/', '.'])
    })
}

/// Statements are written in capitals.
fn is_sql(literal: &str) -> bool {
    let statements = [
        "SELECT ",
        "INSERT INTO ",
        "DELETE FROM ",
        "CREATE TABLE ",
        "CREATE INDEX ",
        "ALTER TABLE ",
        "DROP TABLE ",
        "PRAGMA ",
    ];
    statements.iter().any(|statement| literal.contains(statement))
        || (literal.contains("UPDATE ") && literal.contains(" SET "))
}

/// Whether the line has the name as a whole word.
fn names(line: &str, name: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(name)
        .any(|(at, _)| !line[..at].ends_with(part) && !line[at + name.len()..].starts_with(part))
}

fn starts_with_any(text: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| text.starts_with(prefix))
}

fn rust_files(wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = File> {
    files(&["rs"]).filter(move |file| wanted(&file.path))
}

/// A rule that looks at nothing would hold for ever.
fn checked(files: impl Iterator<Item = File>) -> impl Iterator<Item = File> {
    let mut files = files.peekable();
    assert!(files.peek().is_some(), "no file to look at: have they moved?");
    files
}

#[track_caller]
fn none(files: impl Iterator<Item = File>, breaks: impl Fn(&str) -> bool) {
    let mut found = Vec::new();
    for file in checked(files) {
        for (number, line) in file.text.lines().enumerate().filter(|(_, line)| breaks(line)) {
            found.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_conventions_can_be_broken() {
    assert!(names("use tokio::sync;", "tokio") && !names("tokio_util", "tokio"));
    assert!(is_sql("UPDATE t SET a = 1") && is_sql("\n  SELECT 1") && !is_sql("select a file"));
    assert_eq!(linked_paths("[a](b.md#c) [d](https://e.f)").collect::<Vec<_>>(), ["b.md"]);
    let quoted = "see `a/b.rs`, `cargo run`, `a/b/` and `/livez`";
    assert_eq!(quoted_paths(quoted).collect::<Vec<_>>(), ["a/b.rs", "a/b/"]);
}
