//! `completions` and `man`: what a shell and `man` read of the command line itself.

use clap::CommandFactory;

use super::Out;
use crate::arguments::{Arguments, CompletionsArguments, ManArguments};
use crate::error::Error;

/// Writes the script of a shell.
pub(super) fn completions(arguments: &CompletionsArguments, out: Out<'_>) -> Result<(), Error> {
    let mut script = Vec::new();
    let mut command = Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "spanstore", &mut script);
    out.write_all(&script)?;
    Ok(out.flush()?)
}

/// Writes the page of the program and one for each command.
pub(super) fn man(arguments: &ManArguments) -> Result<(), Error> {
    let failed = || Error::io(arguments.directory.display().to_string());
    std::fs::create_dir_all(&arguments.directory).map_err(failed())?;
    clap_mangen::generate_to(Arguments::command(), &arguments.directory).map_err(failed())
}
