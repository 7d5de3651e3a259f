//! Exit codes, after sysexits.h: what started the program can tell a fault of its own from one of the program.

use std::io::Write;
use std::process::ExitCode;

use forebay_broker::fatal::Fatal;

use crate::config::Refused;

/// Done.
pub const OK: u8 = 0;
/// Could not be done: an address in use, records lost in a demo.
pub const FAILED: u8 = 1;
/// Arguments or configuration.
pub const USAGE: u8 = 64;
/// Bus, worker or sink died: nothing was acknowledged that is not safe; start again.
pub const SOFTWARE: u8 = 70;
/// The log or the store can't be opened, read or written.
pub const IO: u8 = 74;

/// A fault of a command that has a code of its own.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Coded {
    /// What is wrong, and what to do.
    pub text: String,
    /// The exit code.
    pub code: u8,
}

/// The code of a fault that ends a running broker.
pub fn of_fatal(fatal: &Fatal) -> u8 {
    match fatal {
        Fatal::Bus(_) | Fatal::Worker(..) | Fatal::Sink(_) => SOFTWARE,
        Fatal::Log(_) | Fatal::Store(_) => IO,
    }
}

/// The code of a command's result; an error is shown first.
pub fn code_of(result: anyhow::Result<u8>) -> ExitCode {
    ExitCode::from(result.unwrap_or_else(|error| {
        // When not even standard error can be written to, the code has to say it.
        let mut out = std::io::stderr().lock();
        if error.is::<Refused>() {
            let _ = writeln!(out, "{error}");
            return USAGE;
        }
        let _ = writeln!(out, "forebay: {error:#}");
        error.downcast_ref::<Coded>().map_or(FAILED, |coded| coded.code)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fatal_fault_has_its_code() {
        for (fatal, code) in [
            (Fatal::Bus(String::new()), 70),
            (Fatal::Worker(0, String::new()), 70),
            (Fatal::Sink(String::new()), 70),
            (Fatal::Log(String::new()), 74),
            (Fatal::Store(String::new()), 74),
        ] {
            assert_eq!(of_fatal(&fatal), code, "{fatal}");
        }
    }
}
