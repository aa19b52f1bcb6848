//! Makes a table narrower, so that it fits the terminal as far as that goes.

use super::table::Shown;
use crate::tree::shorten;

/// How short texts become, in characters.
const LEAST_TEXT_WIDTH: usize = 10;

/// The part of a time, `2026-11-20 12:00:00.000`, that stays where there is little room.
const SHORT_TIME: std::ops::Range<usize> = "2026-".len().."2026-11-20 12:00:00".len();

/// Values as a table shows them, below the names of their columns.
pub(super) struct Cells {
    pub(super) names: Vec<String>,
    pub(super) rows: Vec<Vec<Shown>>,
}

/// How wide a column is, in characters.
struct Widths {
    now: usize,
    least: usize,
}

impl Cells {
    /// Makes lines of `width` characters: by short times, without some of the columns that may be
    /// left out, and by short texts, the longest first. Answers which columns were left out. Ids
    /// stay whole: they are typed again.
    pub(super) fn fit<'n>(&mut self, width: usize, may_leave_out: &[&'n str]) -> Vec<&'n str> {
        if self.least_width() > width {
            self.shorten_times();
        }
        let mut left_out = Vec::new();
        for name in may_leave_out {
            if self.least_width() <= width {
                break;
            }
            self.leave_out(name);
            left_out.push(*name);
        }
        self.shorten_texts(width);
        left_out
    }

    /// How wide a line is.
    pub(super) fn width(&self) -> usize {
        self.line(self.widths().iter().map(|widths| widths.now))
    }

    fn least_width(&self) -> usize {
        self.line(self.widths().iter().map(|widths| widths.least))
    }

    /// A line of columns that are so wide, with a blank on both sides of each cell, and what stands
    /// between and beside them.
    fn line(&self, widths: impl Iterator<Item = usize>) -> usize {
        widths.sum::<usize>() + 3 * self.names.len() + 1
    }

    fn widths(&self) -> Vec<Widths> {
        let columns = self.names.iter().enumerate().map(|(place, name)| {
            let name_width = name.chars().count();
            let cells = self.rows.iter().filter_map(|row| row.get(place));
            let widest = cells.clone().map(|cell| cell.text.chars().count()).max();
            let now = widest.unwrap_or(0).max(name_width);
            let is_text = !name.ends_with("_id") && cells.clone().all(Shown::is_text);
            let least = if is_text {
                now.min(name_width.max(LEAST_TEXT_WIDTH))
            } else {
                now
            };
            Widths { now, least }
        });
        columns.collect()
    }

    fn shorten_times(&mut self) {
        for cell in self.rows.iter_mut().flatten() {
            if cell.is_time()
                && let Some(short) = cell.text.get(SHORT_TIME)
            {
                cell.text = short.to_owned();
            }
        }
    }

    fn leave_out(&mut self, name: &str) {
        if let Some(place) = self.names.iter().position(|one| one == name) {
            self.names.remove(place);
            for row in &mut self.rows {
                row.remove(place);
            }
        }
    }

    fn shorten_texts(&mut self, width: usize) {
        let mut widths = self.widths();
        while self.line(widths.iter().map(|widths| widths.now)) > width {
            let longest = widths
                .iter_mut()
                .filter(|widths| widths.now > widths.least)
                .max_by_key(|widths| widths.now);
            match longest {
                Some(longest) => longest.now -= 1,
                None => break,
            }
        }
        for row in &mut self.rows {
            for (cell, widths) in row.iter_mut().zip(&widths) {
                if cell.is_text() {
                    cell.text = shorten(&cell.text, widths.now);
                }
            }
        }
    }
}
