//! The `talkstack` binary: reads the command line and the configuration, then hands over.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use talkstack_gateway::cli::{Cli, CliCommand, run_admin};
use talkstack_gateway::config::{Config, LogFormat};
use talkstack_gateway::serve::{self, Halves};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    // Only a second call fails.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::parse();
    if matches!(cli.command, Some(CliCommand::Version)) {
        // Needs no configuration, least of all a good one.
        println!("talkstack {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let config = match cli.sources.load() {
        Ok(config) => config,
        Err(error) => return fail(&error, EX_CONFIG),
    };
    match cli.command.unwrap_or(CliCommand::Serve) {
        CliCommand::Serve => run(&config, Halves::Both),
        CliCommand::Calls => run(&config, Halves::Calls),
        CliCommand::Control => run(&config, Halves::Control),
        CliCommand::CheckConfig => {
            println!("The configuration is good.");
            ExitCode::SUCCESS
        }
        command => match run_admin(&command, &config.store.dir) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error, error.exit_code()),
        },
    }
}

fn run(config: &Config, halves: Halves) -> ExitCode {
    start_logging(config.log.format);
    match serve::run(config, halves) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, EX_TEMPFAIL),
    }
}

/// INFO and above on stderr; `RUST_LOG` chooses otherwise.
fn start_logging(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}

fn fail(error: &dyn std::error::Error, code: u8) -> ExitCode {
    eprintln!("talkstack: {error}");
    ExitCode::from(code)
}

/// sysexits.h: the configuration is wrong; systemd does not start it again.
const EX_CONFIG: u8 = 78;

/// sysexits.h: a port, an address or a directory cannot be used.
const EX_TEMPFAIL: u8 = 75;
