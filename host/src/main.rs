//! The `arena` command. Everything it does is in the library, where tests can call it.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    host::run(std::env::args_os()).await
}
