//! Candles from files.

use super::*;

const HEADER: &str = "open_time_ms,open,high,low,close,volume";

async fn import(folder: &Folder, file: &str, more: &[&str]) -> Ran {
    let line = ["market", "import", "--symbol", "BTC", "--interval", "1h", file];
    let line: Vec<&str> = line.into_iter().chain(more.iter().copied()).collect();
    folder.arena(&line).await
}

#[tokio::test]
async fn an_import_counts_what_it_found_and_a_second_one_changes_nothing() {
    let folder = Folder::migrated().await;
    let file = folder.write(
        "bars.csv",
        &format!(
            "{HEADER}\n0,1,2,1,2,5\n14400000,1,2,1,2,5\n14400000,1,2,1,2,5\n1,\u{1b}[2J,1,1,1,1\n"
        ),
    );
    let shown = import(&folder, &file, &[]).await.well();
    let cells: Vec<&str> = shown.lines().nth(3).unwrap().split(['│', '┆']).map(str::trim).collect();
    assert_eq!(cells, ["", "4", "2", "1", "0", "1", "1", ""], "{shown}");
    assert!(shown.contains("from 1970-01-01T00:00:00Z to 1970-01-01T04:00:00Z"), "{shown}");
    assert!(shown.contains("line 5: open_time_ms is `1`, expected a multiple of"), "{shown}");

    let again = import(&folder, &file, &["--json"]).await.json();
    let check = |key: &str, count: u64| assert_eq!(again[key], count, "{key}");
    check("rows", 4);
    check("inserted", 0);
    check("duplicates", 3);
    check("reject_count", 1);
    check("gap_count", 1);
    let gap = serde_json::json!({"from_ms": 3_600_000, "to_ms": 14_400_000, "missing": 3});
    assert_eq!(again["gaps"][0], gap);
    assert_eq!(again["rejects"][0]["line"], 5);
}

#[tokio::test]
async fn a_file_in_which_nothing_is_good_is_exit_1_and_one_that_is_no_candles_exit_2() {
    let folder = Folder::migrated().await;
    let bad = folder.write("bad.csv", &format!("{HEADER}\n0,1,2,\u{1b}[2J,4,5\n"));
    let ran = import(&folder, &bad, &[]).await;
    ran.refused(1, &["every row of", "bad.csv", "was refused"]);
    assert!(ran.out.contains("line 2: low is `\\u{1b}[2J`"), "{}", ran.out);

    let other = folder.write("other.csv", "time,price\n");
    import(&folder, &other, &[]).await.refused(2, &["other.csv", "`time,price`", HEADER]);
    let empty = folder.write("empty.csv", "");
    import(&folder, &empty, &[]).await.refused(2, &["empty.csv", "is empty", HEADER]);
    import(&folder, "/no/such.csv", &[]).await.refused(2, &["cannot open `/no/such.csv`"]);
    let itself = folder.folder.path().to_str().unwrap().to_owned();
    import(&folder, &itself, &[]).await.refused(2, &["cannot read", "line 1"]);
}
