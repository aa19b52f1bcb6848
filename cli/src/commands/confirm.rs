//! Questions to the person at the terminal before something is done that cannot be undone.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::error::Error;

/// Asks whether to do what is said; `--yes` is what does it without a terminal.
pub(super) fn confirm(what: &str) -> Result<(), Error> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Error::Usage(format!("this would {what}; --yes does so")));
    }
    let mut errors = io::stderr();
    write!(errors, "spanstore: {what}? [y/N] ").map_err(Error::io("asking"))?;
    errors.flush().map_err(Error::io("asking"))?;
    let mut answer = String::new();
    let read = stdin.lock().read_line(&mut answer);
    if read.map_err(Error::io("the answer"))? == 0 {
        writeln!(errors).map_err(Error::io("asking"))?;
    }
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Error::Usage("nothing was changed".into())),
    }
}

/// A number of spans, in words; none when it is not known.
pub(super) fn spans(number: Option<u64>) -> String {
    match number {
        Some(1) => "1 span".into(),
        Some(number) => format!("{number} spans"),
        None => "an unknown number of spans".into(),
    }
}
