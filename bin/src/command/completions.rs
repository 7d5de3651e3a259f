//! `forebay completions`.

use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::{Arguments, exit};

/// Print a script that completes the commands in a shell.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  forebay completions bash > /etc/bash_completion.d/forebay
  forebay completions zsh > ~/.zfunc/_forebay
  forebay completions fish > ~/.config/fish/completions/forebay.fish")]
pub struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    /// Writes the script to standard output.
    pub fn execute(self) -> anyhow::Result<u8> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "forebay", &mut script);
        std::io::stdout().write_all(&script)?;
        Ok(exit::OK)
    }
}
