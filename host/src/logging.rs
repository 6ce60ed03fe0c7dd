//! The process's log: one line per event on stderr, so that stdout stays for results.

use std::panic::PanicHookInfo;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::ConfigError;

/// What is logged unless `RUST_LOG` says otherwise: our own story, and only the complaints of
/// the libraries that log every statement and connection.
pub const DEFAULT_FILTER: &str =
    "info,sqlx=warn,sea_orm=warn,sea_orm_migration=warn,tokio_cron_scheduler=warn,poem=warn";

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line, for collectors.
    Json,
}

/// Starts logging to stderr for the whole process. A subscriber that somebody set before (an
/// embedder, a test) stays.
///
/// # Errors
/// [`ConfigError::Invalid`] when the filter cannot be parsed.
pub fn start(format: LogFormat, filter: &str) -> Result<(), ConfigError> {
    let subscriber = subscriber(format, filter, std::io::stderr)?;
    if subscriber.try_init().is_ok() && format == LogFormat::Json {
        // A collector that reads JSON lines should not meet a panic as loose text.
        std::panic::set_hook(Box::new(log_panic));
    }
    Ok(())
}

fn subscriber<W>(
    format: LogFormat,
    filter: &str,
    writer: W,
) -> Result<Box<dyn tracing::Subscriber + Send + Sync>, ConfigError>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder().parse(filter).map_err(|error| ConfigError::Invalid {
        name: "RUST_LOG",
        value: filter.to_owned(),
        expected: "a list such as `info` or `info,domain=debug`",
        source: Some(error.into()),
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    Ok(match format {
        LogFormat::Text => {
            let on_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            Box::new(builder.with_ansi(on_terminal).finish())
        }
        LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
    })
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(location, message = info.payload_as_str().unwrap_or("a value"), "panic");
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;
    use std::sync::{Arc, LazyLock, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Hears everything and keeps nothing. While a process has one subscriber only, tracing asks
    /// whichever thread comes first whether an event matters, and remembers a `no` for all:
    /// another test's thread, without a subscriber, would silence this one.
    static LISTENER: LazyLock<tracing::Dispatch> = LazyLock::new(|| {
        let hears_all = subscriber(LogFormat::Text, "trace", std::io::sink).unwrap();
        tracing::Dispatch::new(hears_all)
    });

    /// What a piece of code logs.
    pub(crate) fn logged(format: LogFormat, filter: &str, log: impl FnOnce()) -> String {
        LazyLock::force(&LISTENER);
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = subscriber(format, filter, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, log);
        String::from_utf8(captured.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn json_lines_are_objects_with_the_fields_at_the_top() {
        let line = logged(LogFormat::Json, "info", || tracing::info!(rows = 3, "imported"));
        let value: serde_json::Value = serde_json::from_str(line.trim_end()).unwrap();
        assert_eq!(value["message"], "imported");
        assert_eq!(value["rows"], 3);
        assert_eq!(value["level"], "INFO");
    }

    #[test]
    fn the_default_filter_keeps_our_story_and_drops_the_statements() {
        let lines = logged(LogFormat::Text, DEFAULT_FILTER, || {
            tracing::info!("ours");
            tracing::info!(target: "sqlx::query", "a statement");
            tracing::warn!(target: "sqlx::query", "a slow statement");
        });
        assert!(lines.contains("ours"), "{lines}");
        assert!(!lines.contains("a statement"), "{lines}");
        assert!(lines.contains("a slow statement"), "{lines}");
    }

    #[test]
    fn a_filter_that_cannot_be_parsed_is_named() {
        let error = subscriber(LogFormat::Text, "domain=loud", std::io::stderr).err().unwrap();
        assert!(error.to_string().contains("RUST_LOG is `domain=loud`"), "{error}");
    }
}
