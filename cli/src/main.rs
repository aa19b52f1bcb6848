//! The command line of spanstore.
#![forbid(unsafe_code)]

use std::io::{self, BufWriter};
use std::process::ExitCode;

use clap::Parser;
use spanstore_cli::arguments::Arguments;
use spanstore_cli::commands;

/// Bytes that are written at a time.
const BUFFER_BYTES: usize = 64 << 10;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, io::stdout());
    match commands::run(&arguments, &mut out) {
        Ok(outcome) => ExitCode::from(outcome.exit_code()),
        // Whoever read the output has seen enough.
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("spanstore: {}", error.report());
            ExitCode::from(error.exit_code())
        }
    }
}
