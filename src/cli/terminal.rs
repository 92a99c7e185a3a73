//! A line typed on the terminal, without echo.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// The kernel takes no longer lines.
const LONGEST: usize = 4096;
const INTERRUPT: u8 = 3;

/// Asks on the terminal of this process, whatever its input and output are. `Interrupted`: somebody was there and gave
/// up; any other error: nobody could be asked.
pub(super) fn ask(prompt: &str) -> io::Result<Zeroizing<String>> {
    let tty = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    let quiet = Quiet::new(&tty)?;
    (&tty).write_all(prompt.as_bytes())?;
    let line = read_line(&tty);
    // Now, and not when somebody gets around to it: an interrupt ends the process.
    drop(quiet);
    (&tty).write_all(b"\n")?;
    line
}

/// One buffer that never moves: one that did would leave a copy behind.
fn read_line(mut tty: impl Read) -> io::Result<Zeroizing<String>> {
    let mut buffer = Zeroizing::new([0; LONGEST]);
    let mut filled = 0;
    while filled < LONGEST {
        let read = match tty.read(&mut buffer[filled..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        filled += read;
        let typed = &buffer[..filled];
        match typed.last() {
            _ if read == 0 => break,
            Some(b'\n') => {
                let line = str::from_utf8(&typed[..filled - 1]);
                return line.map(|line| Zeroizing::new(line.to_owned())).map_err(io::Error::other);
            }
            Some(&INTERRUPT) => break,
            _ => {}
        }
    }
    Err(io::ErrorKind::Interrupted.into())
}

/// No echo, and Ctrl-C comes as an end of the line, for as long as this lives: a signal would end the process with the
/// terminal still without echo.
struct Quiet<'a> {
    tty: &'a File,
    before: Termios,
}

impl Quiet<'_> {
    fn new(tty: &File) -> io::Result<Quiet<'_>> {
        let before = tcgetattr(tty)?;
        let mut modes = before.clone();
        modes.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ISIG);
        modes.local_modes.insert(LocalModes::ICANON);
        modes.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT;
        tcsetattr(tty, OptionalActions::Drain, &modes)?;
        Ok(Quiet { tty, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.tty, OptionalActions::Drain, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_was_typed_before_return() {
        let line = |typed: &[u8]| read_line(typed).map(|line| line.to_string()).map_err(|error| error.kind());
        assert_eq!(line("längere Wörter \n".as_bytes()).as_deref(), Ok("längere Wörter "));
        assert_eq!(line(b"\n").as_deref(), Ok(""));
        assert_eq!(line(b"abc\x03"), Err(io::ErrorKind::Interrupted));
        assert_eq!(line(b""), Err(io::ErrorKind::Interrupted));
        assert_eq!(line(b"\xff\n"), Err(io::ErrorKind::Other));
        assert_eq!(line(&[b'a'; 5000]), Err(io::ErrorKind::Interrupted));
    }
}
