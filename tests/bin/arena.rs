//! The arena as its own tests start it: the same entry as the host's binary, built beside them.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    host::run(std::env::args_os()).await
}
