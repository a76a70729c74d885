//! Ingest and training Jobs: see the library's documentation.

use std::process::ExitCode;

fn main() -> ExitCode {
    vitrine_trainer::cli::main()
}
