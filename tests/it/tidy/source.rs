//! The repository's own text: its files, and the string literals of Rust.

use std::path::{Path, PathBuf};

/// A text file of the repository.
pub(super) struct File {
    /// Its path from the root, with `/`.
    pub(super) path: String,
    pub(super) text: String,
}

/// The root of the repository.
pub(super) fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("the package is in the workspace").to_owned()
}

/// The files with one of these extensions, or of these names where there is no extension; what is
/// built or hidden is left out, but for the gate.
pub(super) fn files(endings: &[&str]) -> impl Iterator<Item = File> {
    let root = root();
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    paths.sort();
    let wanted: Vec<_> = paths.into_iter().filter(|path| ends_with_any(path, endings)).collect();
    wanted.into_iter().map(move |path| File {
        text: std::fs::read_to_string(&path).expect("a text file"),
        path: path.strip_prefix(&root).expect("inside").to_string_lossy().replace('\\', "/"),
    })
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name == "target" || (name.starts_with('.') && name != ".ci") {
            continue;
        }
        if path.is_dir() { collect(&path, paths) } else { paths.push(path) }
    }
}

fn ends_with_any(path: &Path, endings: &[&str]) -> bool {
    let ending = path.extension().or(path.file_name()).unwrap_or_default();
    endings.iter().any(|wanted| ending == *wanted)
}

/// The string literals of Rust code, each with its line; comments have none.
pub(super) fn string_literals(code: &str) -> Vec<(usize, String)> {
    let mut literals = Vec::new();
    let mut rest = code;
    while let Some(start) = rest.find(['"', '/', '\'']) {
        let (before, from) = rest.split_at(start);
        let length = if from.starts_with("//") {
            from.find('\n').unwrap_or(from.len())
        } else if from.starts_with("/*") {
            from.find("*/").map_or(from.len(), |end| end + 2)
        } else if from.starts_with('"') {
            let length = literal_length(before, from);
            let line = code[..code.len() - from.len()].lines().count().max(1);
            literals.push((line, from[..length].to_owned()));
            length
        } else {
            // A quote or a backslash as a character, or a lifetime.
            ["'\"'", "'\\\"'", "'\\''", "'\\\\'"]
                .iter()
                .find(|character| from.starts_with(**character))
                .map_or(1, |character| character.len())
        };
        rest = &from[length..];
    }
    literals
}

/// The length of the literal that `from` starts with; `before` tells a raw one.
fn literal_length(before: &str, from: &str) -> usize {
    let opening = before.trim_end_matches('#');
    if opening.ends_with('r') {
        let end = format!("\"{}", "#".repeat(before.len() - opening.len()));
        return from[1..].find(&end).map_or(from.len(), |at| at + 1 + end.len());
    }
    let mut escaped = false;
    for (at, c) in from.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    from.len()
}

#[test]
fn string_literals_are_found_and_comments_are_not() {
    #[track_caller]
    fn check(code: &str, expected: &[&str]) {
        let found: Vec<_> = string_literals(code).into_iter().map(|(_, text)| text).collect();
        assert_eq!(found, expected, "{code}");
    }
    check(r#"let a = "b"; // "c""#, &[r#""b""#]);
    check(r#"f("a\"b", 'x', '"', "c")"#, &[r#""a\"b""#, r#""c""#]);
    check("r#\"a\"b\"# /* \"c\" */ \"d\"", &["\"a\"b\"#", "\"d\""]);
    check("fn f<'a>(x: &'a str) -> u8 { 1 / 2 }", &[]);
    check("\"a\\\\\" + \"b\"", &["\"a\\\\\"", "\"b\""]);
    assert_eq!(string_literals("\n\n  \"SELECT\"")[0].0, 3);
}
