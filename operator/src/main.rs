//! Entry of the operator: flags, TLS provider, log, and one of the two commands.

use std::process::ExitCode;

use clap::Parser as _;
use vitrine_operator::config::{Cli, Command};
use vitrine_operator::error::chain;
use vitrine_operator::{run, selftest};

fn main() -> ExitCode {
    let cli = Cli::parse();
    // first of all: with two providers compiled in, the first TLS use would panic
    if let Err(error) = run::install_crypto() {
        return fail(&error);
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let ended = match cli.command {
        Command::Run(config) => {
            run::install_log(config.log_format);
            runtime.block_on(run::run(*config))
        }
        Command::Selftest { url } => runtime.block_on(selftest::run(&url)),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&*error),
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("vitrine-operator: {}", chain(error));
    ExitCode::FAILURE
}
