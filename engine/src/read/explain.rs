//! Says how a condition is answered, for people.

use std::fmt::{self, Write};

use super::condition::{Condition, Leaf};
use super::indexes::Answer;
use super::matching::Matching;
use crate::error::Error;

/// How a leaf is answered.
enum Way {
    Index,
    IndexThenValues,
    /// Each different value of one column is looked at once.
    Codes,
    Values,
}

impl fmt::Display for Way {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Index => "index",
            Self::IndexThenValues => "index, then values",
            Self::Codes => "different values",
            Self::Values => "values",
        })
    }
}

impl Matching {
    /// How each leaf of a condition is answered in this partition, a line each.
    pub(crate) fn explain(&self, condition: &Condition) -> Result<String, Error> {
        let mut out = String::new();
        self.explain_one(condition, true, 1, &mut out)?;
        Ok(out)
    }

    fn explain_one(
        &self,
        condition: &Condition,
        wanted: bool,
        depth: usize,
        out: &mut String,
    ) -> Result<(), Error> {
        let mut line = |text: fmt::Arguments<'_>| {
            let indent = "  ".repeat(depth);
            // A string takes everything.
            writeln!(out, "{indent}{text}").ok();
        };
        let parts = match condition {
            // Most often there is one filter.
            Condition::And(parts) if parts.len() == 1 => {
                for part in parts {
                    self.explain_one(part, wanted, depth, out)?;
                }
                return Ok(());
            }
            Condition::And(parts) if parts.is_empty() => {
                line(format_args!("{condition}"));
                return Ok(());
            }
            Condition::And(parts) => {
                line(format_args!("all of"));
                parts
            }
            Condition::Or(parts) => {
                line(format_args!("one of"));
                parts
            }
            Condition::Not(one) => {
                line(format_args!("not"));
                return self.explain_one(one, !wanted, depth + 1, out);
            }
            Condition::Implying(one, _) => return self.explain_one(one, wanted, depth, out),
            Condition::Within(..) => {
                line(format_args!("{condition}: bounds of pages"));
                return Ok(());
            }
            Condition::Leaf(leaf) if let Some(asked) = leaf.predicate.of_any_attribute() => {
                let each = self.of_each_attribute(leaf, asked)?;
                let columns = match &*each {
                    Condition::Or(each) => each.len(),
                    _ => 1,
                };
                let text = leaf.predicate.text();
                line(format_args!(
                    "{text}: {columns} columns of attributes, by indexes, codes or values"
                ));
                return Ok(());
            }
            Condition::Leaf(leaf) => {
                let way = self.way(leaf, wanted)?;
                line(format_args!("{}: {way}", leaf.predicate.text()));
                return Ok(());
            }
        };
        for part in parts {
            self.explain_one(part, wanted, depth + 1, out)?;
        }
        Ok(())
    }

    fn way(&self, leaf: &Leaf, wanted: bool) -> Result<Way, Error> {
        match &*self.answer(leaf, wanted)? {
            Answer::Exactly(_) => return Ok(Way::Index),
            Answer::AtMost(_) => return Ok(Way::IndexThenValues),
            Answer::Unknown => {}
        }
        Ok(match leaf.columns.as_slice() {
            [column] if self.is_coded(column)? => Way::Codes,
            _ => Way::Values,
        })
    }
}
