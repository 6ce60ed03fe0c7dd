//! What the command line takes, refuses and says about itself.

use clap::CommandFactory;

use super::*;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_flag_has_a_sentence_and_its_variable_in_the_help() {
    fn check(command: &clap::Command) {
        for flag in command.get_arguments().filter(|flag| flag.get_id() != "help") {
            let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.len() > 8, "{} --{}: `{help}`", command.get_name(), flag.get_id());
        }
        command.get_subcommands().for_each(check);
    }
    let mut cli = Cli::command();
    cli.build();
    check(&cli);

    let help = |path: &[&str]| {
        let mut command = &mut cli;
        for name in path {
            command = command.find_subcommand_mut(name).unwrap();
        }
        command.render_long_help().to_string()
    };
    let mut help = help;
    for path in [&["api"][..], &["up"], &["worker", "backtests"], &["db", "status"]] {
        let help = help(path);
        for variable in ["DATABASE_URL", "LOG_FORMAT", "RUST_LOG"] {
            assert!(help.contains(&format!("[env: {variable}")), "{path:?} {variable}\n{help}");
        }
    }
    assert!(help(&["api"]).contains("[env: ARENA_BIND"));
    for variable in [
        "CLONE_DECISIONS_INTERVAL",
        "PROP_DECISIONS_INTERVAL",
        "MARK_TO_MARKET_INTERVAL",
        "BACKTESTS_INTERVAL",
        "AUDITION_EVALUATOR_INTERVAL",
        "ARENA_ENTRY_INTERVAL",
    ] {
        assert!(help(&["worker", "all"]).contains(&format!("[env: {variable}")), "{variable}");
    }
    for variable in [
        "HYPERLIQUID_URL",
        "HYPERLIQUID_WS_URL",
        "DEFILLAMA_URL",
        "POLYMARKET_GAMMA_URL",
        "POLYMARKET_CLOB_URL",
        "POLYMARKET_WS_URL",
    ] {
        assert!(help(&["ingest"]).contains(&format!("[env: {variable}")), "{variable}");
    }
    for variable in ["INTERNAL_SERVICE_TOKEN", "API_BEARER_TOKENS"] {
        assert!(help(&[]).contains(variable));
    }
}

#[tokio::test]
async fn help_and_version_go_to_stdout_and_mistakes_to_stderr() {
    for line in ["--help", "--version"] {
        let ran = arena(&[line]).await;
        assert_eq!((ran.code, ran.err.as_str()), (0, ""));
        assert!(ran.out.contains("arena") || ran.out.contains("Usage"), "{}", ran.out);
    }
    let ran = arena(&["fly"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    assert!(ran.err.contains("fly"), "{}", ran.err);
}

#[tokio::test]
async fn a_wrong_value_is_exit_2_and_names_flag_value_and_what_would_be_right() {
    let check = async |line: &[&str], expected: &[&str]| {
        let ran = arena(line).await;
        assert_eq!(ran.code, 2, "{line:?}: {}", ran.err);
        for part in expected {
            assert!(ran.err.contains(part), "{line:?}: `{part}` not in {}", ran.err);
        }
    };
    check(&["api", "--bind", "here"], &["--bind", "'here'", "ARENA_BIND", "127.0.0.1:8080"]).await;
    check(
        &["up", "--backtests-interval", "15"],
        &["--backtests-interval", "'15'", "BACKTESTS_INTERVAL", "15s"],
    )
    .await;
    check(
        &["worker", "mark-to-market", "--mark-to-market-interval", "0s"],
        &["'0s'", "MARK_TO_MARKET_INTERVAL"],
    )
    .await;
    check(&["worker", "prop-decisions", "--limit", "0"], &["--limit", "'0'"]).await;
    check(&["worker", "clone-decisions", "--clone-id", "x"], &["--clone-id", "'x'"]).await;
    check(&["worker", "all", "--with", "ingestion"], &["--with", "clone-decisions"]).await;
    check(&["worker", "prop-decisions", "--llm-url", "http://127.0.0.1"], &["--llm-model"]).await;
    check(&["ingest", "--source", "nasdaq"], &["--source", "hyperliquid"]).await;
    check(&["ingest", "--hyperliquid-url", "venue"], &["--hyperliquid-url", "https://"]).await;
    check(&["--log-format", "xml", "openapi"], &["--log-format", "'xml'", "json"]).await;
    check(&["--log-filter", "a=loud", "openapi"], &["RUST_LOG", "`a=loud`", "info"]).await;
    check(&["worker", "backtests", "--max-concurrent", "0"], &["--max-concurrent", "'0'"]).await;
    check(&["worker", "backtests", "--wait", "5s"], &["--once"]).await;
    check(&["backtest", "list", "--limit", "0"], &["--limit", "'0'"]).await;
    let import = ["market", "import", "--symbol", "BTC", "--interval", "2h", "x.csv"];
    check(&import, &["--interval", "`2h`", "1m, 5m, 15m, 1h, 4h, 1d"]).await;
    let submit = |flag, value| {
        ["backtest", "submit", "--user", "1", "--graph", "g", "--symbol", "BTC", "--interval"]
            .into_iter()
            .chain(["1h", flag, value])
            .collect::<Vec<_>>()
    };
    for cash in ["0", "-1", "nan", "inf", "ten", "1e13"] {
        check(&submit("--cash", cash), &["--cash", "above 0, at most 1e12"]).await;
    }
    check(&submit("--fee-bps", "1001"), &["--fee-bps", "'1001'", "from 0 to 1000"]).await;
    check(&submit("--slippage-bps", "-1"), &["--slippage-bps", "'-1'", "from 0 to 1000"]).await;
    let import = ["market", "import", "--symbol", "B C", "--interval", "1h", "x.csv"];
    check(&import, &["--symbol", "`B C`", "visible ASCII"]).await;
    for address in ["mysql://db/arena", "arena.db", ""] {
        check(
            &["db", "status", "--database-url", address],
            &[&format!("(DATABASE_URL) is `{address}`"), "expected sqlite://FILE"],
        )
        .await;
    }
    check(
        &["db", "status", "--database-url", "sqlite:///no/such/folder/arena.db"],
        &["`sqlite:///no/such/folder/arena.db`", "a folder that is there"],
    )
    .await;
}

#[tokio::test]
async fn a_password_in_the_database_address_is_never_shown() {
    let address = "postgres://me:hunter2@db/arena";
    for line in [
        &["--database-url", address, "db", "status"][..],
        &["--database-url", address, "db", "fly"],
        &["db", "status", "--database-url", address, "--fly"],
    ] {
        let ran = arena(line).await;
        assert_eq!(ran.code, 2, "{line:?}");
        assert!(!ran.err.contains("hunter2") && !ran.out.contains("hunter2"), "{}", ran.err);
    }
}
