//! How a command ends when it does not end well, and what the operator sees of it.

use std::fmt::Write as _;
use std::process::ExitCode;

use domain::services::backtests::SubmitError;
use migration::MigrateError;
use scheduler_core::{ClockSkewError, RunOnceError, StartError, StoreError};

use crate::config::ConfigError;
use crate::terminal::{escape, utc};

/// Why a command ended without doing what was asked. The variant decides the exit code.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The work failed, or a check found something stale: exit code 1.
    #[error(transparent)]
    Work(anyhow::Error),
    /// The command line, the configuration or an input file is wrong: exit code 2. Trying again
    /// without a change cannot help.
    #[error(transparent)]
    Usage(anyhow::Error),
    /// Another host holds the lease: exit code 3.
    #[error(transparent)]
    Busy(anyhow::Error),
}

impl Failure {
    /// A failure of the work, in one sentence.
    #[must_use]
    pub fn work(sentence: impl Into<String>) -> Self {
        Self::Work(anyhow::Error::msg(sentence.into()))
    }

    /// Wrong usage, in one sentence.
    #[must_use]
    pub fn usage(sentence: impl Into<String>) -> Self {
        Self::Usage(anyhow::Error::msg(sentence.into()))
    }

    /// Somebody else is at it, in one sentence.
    #[must_use]
    pub fn busy(sentence: impl Into<String>) -> Self {
        Self::Busy(anyhow::Error::msg(sentence.into()))
    }

    /// 1 for failed work, 2 for wrong usage, 3 for busy. (0 is for commands that did not fail.)
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Work(_) => 1,
            Self::Usage(_) => 2,
            Self::Busy(_) => 3,
        }
    }

    /// [`code`](Self::code), for `main`.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    /// The error and each of its causes on a line of its own, fit for a terminal.
    #[must_use]
    pub fn report(&self) -> String {
        let (Self::Work(error) | Self::Usage(error) | Self::Busy(error)) = self;
        let mut report = format!("error: {}\n", escape(&error.to_string()));
        let mut last = error.to_string();
        for cause in error.chain().skip(1).map(ToString::to_string) {
            // Some libraries print their cause themselves; once is enough.
            if !last.ends_with(&cause) {
                let _infallible = writeln!(report, "  caused by: {}", escape(&cause));
            }
            last = cause;
        }
        report
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Work(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Work(error.into())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.into())
    }
}

impl From<StoreError> for Failure {
    /// A file that cannot be written stays so until somebody changes its permissions.
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::ReadOnly { .. }
            | StoreError::Url { .. }
            | StoreError::NetworkFile { .. } => Self::Usage(error.into()),
            _ => Self::Work(error.into()),
        }
    }
}

impl From<MigrateError> for Failure {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Store(error) => error.into(),
            MigrateError::Newer { .. } => Self::Usage(error.into()),
            _ => Self::Work(error.into()),
        }
    }
}

impl From<SubmitError> for Failure {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Store(error) => error.into(),
            SubmitError::Refused(error) => Self::Usage(error.into()),
            _ => Self::Work(error.into()),
        }
    }
}

impl From<RunOnceError> for Failure {
    fn from(error: RunOnceError) -> Self {
        match error {
            RunOnceError::Busy { holder, until_ms } => {
                Self::busy(format!("busy, held by {holder} until {}", utc(until_ms)))
            }
            RunOnceError::Store(error) => error.into(),
            RunOnceError::ClockSkew(error) => error.into(),
            _ => Self::Work(error.into()),
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::ClockSkew(error) => error.into(),
            error => Self::Work(anyhow::Error::from(error).context("the workers did not start")),
        }
    }
}

impl From<ClockSkewError> for Failure {
    /// Trying again does not help until somebody sets the clock.
    fn from(error: ClockSkewError) -> Self {
        Self::Usage(error.into())
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use scheduler_core::ClockSkew;

    use super::*;

    #[test]
    fn each_kind_has_its_own_exit_code() {
        assert_eq!(Failure::work("x").code(), 1);
        assert_eq!(Failure::usage("x").code(), 2);
        assert_eq!(Failure::busy("x").code(), 3);
    }

    #[test]
    fn a_busy_worker_is_exit_3_and_names_who_holds_it_until_when() {
        let busy = RunOnceError::Busy { holder: "0190".into(), until_ms: 1_763_928_000_000 };
        let failure = Failure::from(busy);
        assert_eq!(failure.code(), 3);
        assert_eq!(failure.report(), "error: busy, held by 0190 until 2025-11-23T20:00:00Z\n");
    }

    #[test]
    fn a_clock_that_is_off_is_exit_2_and_the_report_says_what_to_do() {
        let off = || ClockSkewError(ClockSkew::default());
        for failure in
            [Failure::from(StartError::from(off())), Failure::from(RunOnceError::from(off()))]
        {
            assert_eq!(failure.code(), 2);
            assert!(failure.report().contains("NTP"), "{}", failure.report());
            assert_eq!(failure.report().lines().count(), 1, "{}", failure.report());
        }
    }

    #[test]
    fn the_report_names_every_cause_once() {
        let error = anyhow!("disk full").context("write row: disk full").context("import failed");
        assert_eq!(
            Failure::Work(error).report(),
            "error: import failed\n  caused by: write row: disk full\n"
        );
    }

    #[test]
    fn the_report_cannot_move_the_cursor() {
        let report = Failure::work("name is `\u{1b}[2J\nok`").report();
        assert_eq!(report, "error: name is `\\u{1b}[2J\\nok`\n");
    }
}
