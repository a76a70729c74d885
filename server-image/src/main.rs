//! The inference server's entry point: flags in, exit code out. All wiring is in the library.

use std::process::ExitCode;

use clap::Parser;
use vitrine_server::cli::{Cli, Command};
use vitrine_server::{cli, server};

fn main() -> ExitCode {
    let Command::Serve(flags) = Cli::parse().command;
    cli::log(flags.log_format);
    let termination = flags.termination_log.clone();
    let outcome = flags.settings().and_then(server::main);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report(&termination);
            ExitCode::from(u8::try_from(failure.exit).unwrap_or(1))
        }
    }
}
