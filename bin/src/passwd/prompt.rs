//! A new password from standard input, asked for twice; a terminal does not show it.

use std::future::poll_fn;
use std::io::{self, BufRead, Read, Stdin, Write};
use std::task::Poll;

use anyhow::{Context, bail};
use forebay_broker::auth::MOST_PASSWORD_BYTES;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, isatty, tcgetattr, tcsetattr};
use tokio::signal::unix::{Signal, SignalKind, signal};

const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const ERASE_LINE: u8 = 0x15;

/// Asks for a password and once more for the same.
pub fn new_password() -> anyhow::Result<String> {
    let stdin = io::stdin();
    // Before the question: what answers it at once must not be seen either.
    let silent = Silent::of(&stdin).context("the terminal can't be kept from showing it")?;
    let ask = |prompt: &str| {
        let mut err = io::stderr();
        let _ = write!(err, "{prompt}").and_then(|()| err.flush()); // it is read whether or not anybody sees the question
        let line = match silent {
            Some(_) => from_keys(&mut stdin.lock()),
            None => from_line(&mut stdin.lock()),
        };
        let _ = writeln!(err);
        String::from_utf8(line.context("no password")?).context("the password is not UTF-8")
    };
    let first = ask("Password: ")?;
    if !first.is_empty() && ask("Reenter password: ")? != first {
        bail!("the passwords are not the same");
    }
    Ok(first)
}

/// A line of a pipe or a file.
fn from_line(input: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    input
        .take(MOST_PASSWORD_BYTES as u64 + 2)
        .read_until(b'\n', &mut line)?;
    while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        line.pop();
    }
    Ok(line)
}

/// What is typed, key by key, up to the end of the line.
fn from_keys(input: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line: Vec<u8> = Vec::new();
    for byte in input.bytes() {
        match byte? {
            b'\n' | b'\r' | END => return Ok(line),
            INTERRUPT => return Err(io::Error::other("interrupted")),
            ERASE_LINE => line.clear(),
            0x08 | 0x7f => {
                // A character, not a byte of it.
                while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            byte if line.len() <= MOST_PASSWORD_BYTES => line.push(byte),
            _ => {}
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// A terminal that shows no key and hands each on at once, until this goes: also the one that interrupts, or a terminal
/// would stay silent behind it.
struct Silent<'a> {
    terminal: &'a Stdin,
    before: Termios,
}

impl<'a> Silent<'a> {
    /// None when `stdin` is no terminal.
    fn of(stdin: &'a Stdin) -> io::Result<Option<Self>> {
        if !isatty(stdin) {
            return Ok(None);
        }
        let before = tcgetattr(stdin)?;
        restore_when_ended(&before)?;
        let mut modes = before.clone();
        modes.local_modes -= LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG;
        modes.special_codes[SpecialCodeIndex::VMIN] = 1;
        modes.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(stdin, OptionalActions::Flush, &modes)?;
        Ok(Some(Self {
            terminal: stdin,
            before,
        }))
    }
}

/// Whoever ends this process while it waits for keys, the terminal shows them again.
fn restore_when_ended(before: &Termios) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let mut signals = Vec::new();
    for kind in [
        SignalKind::hangup(),
        SignalKind::interrupt(),
        SignalKind::quit(),
        SignalKind::terminate(),
    ] {
        let _inside = runtime.enter();
        signals.push((kind, signal(kind)?));
    }
    let before = before.clone();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let number = runtime.block_on(first_of(&mut signals));
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before); // it may be gone
            std::process::exit(128 + number); // as shells say it
        })?;
    Ok(())
}

/// The number of the first signal that comes.
async fn first_of(signals: &mut [(SignalKind, Signal)]) -> i32 {
    poll_fn(|cx| {
        let mut came = signals.iter_mut();
        match came.find_map(|(kind, signal)| signal.poll_recv(cx).is_ready().then_some(*kind)) {
            Some(kind) => Poll::Ready(kind.as_raw_value()),
            None => Poll::Pending,
        }
    })
    .await
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        // Nothing is left to do for a terminal that has gone.
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_taken_back_by_characters() {
        for (typed, line) in [
            ("abc\n", "abc"),
            ("abß\u{7f}\u{7f}x\r", "ax"),
            ("ab\u{15}c\u{8}\u{8}\u{8}d\u{4}", "d"),
        ] {
            assert_eq!(
                from_keys(&mut typed.as_bytes()).unwrap(),
                line.as_bytes(),
                "{typed:?}"
            );
        }
        assert!(from_keys(&mut "ab\u{3}c\n".as_bytes()).is_err());
        assert!(from_keys(&mut "ab".as_bytes()).is_err());
        let long = format!("{}\n", "x".repeat(2 * MOST_PASSWORD_BYTES));
        assert!(from_keys(&mut long.as_bytes()).unwrap().len() > MOST_PASSWORD_BYTES);
        assert_eq!(from_line(&mut "a b \r\nc".as_bytes()).unwrap(), b"a b ");
    }
}
