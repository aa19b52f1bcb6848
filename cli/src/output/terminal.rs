//! How wide the terminal is.

use console::Term;

/// Characters of a line: what `COLUMNS` says, else what the terminal says that the output goes to;
/// none where there is neither.
pub fn width() -> Option<usize> {
    let set = std::env::var("COLUMNS").ok();
    let set = set.and_then(|columns| columns.parse().ok());
    set.filter(|columns| *columns > 0).or_else(|| {
        let (_, columns) = Term::stdout().size_checked()?;
        Some(usize::from(columns))
    })
}
