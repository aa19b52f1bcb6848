//! Arguments of `completions` and `man`.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

/// Arguments of `completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spanstore completions bash > ~/.local/share/bash-completion/completions/spanstore
  spanstore completions fish > ~/.config/fish/completions/spanstore.fish")]
pub struct CompletionsArguments {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  spanstore man ~/.local/share/man/man1")]
pub struct ManArguments {
    /// The directory of the pages; it is made where it is not there
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}
