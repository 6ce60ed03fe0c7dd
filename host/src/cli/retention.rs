//! How long rows are kept that pile up.

use std::time::Duration;

use clap::Args;
use domain::workers::retention::RetentionOptions;

use crate::config;

/// How long rows are kept. Of all processes one deletes, every hour, so give them the same.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Retention")]
pub(crate) struct RetentionArgs {
    /// How long decisions of prop accounts are kept.
    #[arg(long, env = "KEEP_PROP_DECISIONS", value_name = "TIME", default_value = "45d", value_parser = config::kept)]
    keep_prop_decisions: Duration,
    /// How long decisions of clones on their own are kept.
    #[arg(long, env = "KEEP_CLONE_DECISIONS", value_name = "TIME", default_value = "14d", value_parser = config::kept)]
    keep_clone_decisions: Duration,
    /// How long snapshots of accounts' equity are kept.
    #[arg(long, env = "KEEP_EQUITY_SNAPSHOTS", value_name = "TIME", default_value = "30d", value_parser = config::kept)]
    keep_equity_snapshots: Duration,
    /// How long events of accounts are kept.
    #[arg(long, env = "KEEP_ACCOUNT_EVENTS", value_name = "TIME", default_value = "365d", value_parser = config::kept)]
    keep_account_events: Duration,
    /// How long back-tests are kept that have ended.
    #[arg(long, env = "KEEP_BACKTESTS", value_name = "TIME", default_value = "90d", value_parser = config::kept)]
    keep_backtests: Duration,
}

impl RetentionArgs {
    pub(crate) fn options(&self) -> RetentionOptions {
        RetentionOptions {
            prop_decisions: self.keep_prop_decisions,
            clone_decisions: self.keep_clone_decisions,
            equity_snapshots: self.keep_equity_snapshots,
            account_events: self.keep_account_events,
            backtests: self.keep_backtests,
            ..RetentionOptions::default()
        }
    }
}
