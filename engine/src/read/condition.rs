//! Conditions on rows.

use std::fmt;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use roaring::RoaringBitmap;
use spanstore_format::SegmentId;
use spanstore_format::segment::Column;
use spanstore_format::table::Table;

use super::bounded::{Bounded, Limits};
use super::constraints::Constraints;
use crate::error::Error;

/// A condition on the values of some columns.
pub(crate) trait Predicate: fmt::Debug + Send + Sync {
    /// For each row of a batch with these columns, whether the condition is true, false or
    /// null.
    ///
    /// # Errors
    /// What its evaluation answers.
    fn holds(&self, rows: &RecordBatch) -> Result<BooleanArray, Error>;

    /// The condition as text, for people.
    fn text(&self) -> String;

    /// The rows of a segment for which it is true, if they are known; it is false for the
    /// others.
    fn rows_in(&self, _: SegmentId) -> Option<&RoaringBitmap> {
        None
    }

    /// Where it asks for the text of any attribute: what it asks.
    fn of_any_attribute(&self) -> Option<&OfAnyAttribute> {
        None
    }

    /// Whether it asks for the values of a column, and for nothing else, where it expects
    /// some columns.
    fn is_over(&self, columns: &[Column], column: &Column) -> bool {
        columns == std::slice::from_ref(column)
    }
}

/// A condition that holds for a span where it holds for one of its attributes. It is never null.
#[derive(Debug)]
pub(crate) struct OfAnyAttribute {
    /// Asks it of the values of an attribute: texts, numbers or booleans.
    pub(crate) of_values: Arc<dyn Predicate>,
    /// Is given the beginnings of texts. It is true where the whole text may fulfil the
    /// condition though its end alone does not.
    pub(crate) of_beginnings: Arc<dyn Predicate>,
    /// Asks it of messages with attributes.
    pub(crate) of_messages: Arc<dyn Predicate>,
    /// Whether it may hold for the text of a number or of a boolean.
    pub(crate) may_be_in_numbers: bool,
    /// The columns of spans that the same filter asks too. What lies there need not be asked
    /// again.
    pub(crate) elsewhere: Vec<usize>,
}

/// A condition that only values tell.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    /// The table that its columns are of.
    pub(crate) table: &'static Table,
    /// The columns that it is over, in the order in which it expects them.
    pub(crate) columns: Vec<Column>,
    pub(crate) predicate: Arc<dyn Predicate>,
    /// What must hold where it does.
    pub(crate) necessary: Constraints,
}

impl Leaf {
    /// Tells it from the other leaves of a condition.
    pub(crate) fn key(&self) -> usize {
        Arc::as_ptr(&self.predicate).cast::<()>().addr()
    }
}

/// A condition on rows. For each row it is true, false or null, as in SQL.
#[derive(Debug, Clone)]
pub(crate) enum Condition {
    /// All of these; true when there is none.
    And(Vec<Self>),
    /// One of these; false when there is none.
    Or(Vec<Self>),
    /// The opposite.
    Not(Box<Self>),
    /// The number lies within limits.
    Within(Bounded, Limits),
    /// A condition, and what must hold where it does.
    Implying(Box<Self>, Constraints),
    /// A condition that only values tell.
    Leaf(Leaf),
}

/// For people, in one line.
impl fmt::Display for Condition {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parts, word) = match self {
            Self::And(parts) if parts.is_empty() => return out.write_str("every span"),
            Self::Or(parts) if parts.is_empty() => return out.write_str("no span"),
            Self::And(parts) => (parts, " and "),
            Self::Or(parts) => (parts, " or "),
            Self::Not(one) => return write!(out, "not ({one})"),
            Self::Within(bounded, Limits { from, below }) => {
                let name = bounded.name();
                return match (from, below) {
                    (Some(from), Some(below)) => write!(out, "{from} <= {name} < {below}"),
                    (Some(from), None) => write!(out, "{name} >= {from}"),
                    (None, Some(below)) => write!(out, "{name} < {below}"),
                    (None, None) => out.write_str("every span"),
                };
            }
            Self::Implying(one, _) => return one.fmt(out),
            Self::Leaf(leaf) => return out.write_str(&leaf.predicate.text()),
        };
        for (number, part) in parts.iter().enumerate() {
            if number > 0 {
                out.write_str(word)?;
            }
            if parts.len() == 1 {
                part.fmt(out)?;
            } else {
                write!(out, "({part})")?;
            }
        }
        Ok(())
    }
}

impl Condition {
    /// The condition that is true for every row.
    pub(crate) fn always() -> Self {
        Self::And(Vec::new())
    }

    /// The condition without those of its terms, joined by `and`, that are over a column
    /// alone.
    pub(crate) fn without(&self, column: &Column) -> Self {
        match self {
            Self::And(all) => {
                let others = all.iter().filter(|term| !term.is_over(column));
                Self::And(others.map(|term| term.without(column)).collect())
            }
            Self::Implying(one, necessary) => {
                if one.has_term_over(column) {
                    one.without(column).narrowed()
                } else {
                    Self::Implying(one.clone(), necessary.clone())
                }
            }
            term if term.is_over(column) => Self::always(),
            other => other.clone(),
        }
    }

    /// With what its parts tell together of ids and times.
    pub(crate) fn narrowed(self) -> Self {
        let necessary = self.constraints();
        Self::Implying(Box::new(self), necessary)
    }

    /// Whether [`Condition::without`] leaves something out.
    pub(crate) fn has_term_over(&self, column: &Column) -> bool {
        match self {
            Self::And(all) => all.iter().any(|term| term.has_term_over(column)),
            Self::Implying(one, _) => one.has_term_over(column),
            term => term.is_over(column),
        }
    }

    /// Whether it asks for the values of this column, and for nothing else.
    fn is_over(&self, column: &Column) -> bool {
        match self {
            Self::And(parts) | Self::Or(parts) => {
                !parts.is_empty() && parts.iter().all(|part| part.is_over(column))
            }
            Self::Not(one) | Self::Implying(one, _) => one.is_over(column),
            // No facet has bounds.
            Self::Within(..) => false,
            Self::Leaf(leaf) => leaf.predicate.is_over(&leaf.columns, column),
        }
    }

    /// What ids and times tell of rows that fulfil it.
    pub(crate) fn constraints(&self) -> Constraints {
        match self {
            Self::And(all) => {
                let all = all.iter().map(Self::constraints);
                all.fold(Constraints::default(), Constraints::and)
            }
            Self::Or(any) => {
                let any = any.iter().map(Self::constraints).reduce(Constraints::or);
                any.unwrap_or_default()
            }
            Self::Within(Bounded::Start, limits) => Constraints::starting(*limits),
            Self::Implying(one, necessary) => one.constraints().and(necessary.clone()),
            Self::Leaf(leaf) => leaf.necessary.clone(),
            Self::Not(_) | Self::Within(..) => Constraints::default(),
        }
    }

    /// Limits of the start of rows that fulfil it.
    pub(crate) fn starts(&self) -> Limits {
        self.constraints().starts
    }

    /// The condition that all of these are true. Limits of one number become one condition,
    /// so that the number is read once.
    pub(crate) fn all(conditions: impl IntoIterator<Item = Self>) -> Self {
        let mut all: Vec<Self> = Vec::new();
        for condition in conditions {
            if let Self::Within(bounded, limits) = condition
                && let Some(known) = all.iter_mut().find_map(|one| one.limits_of(bounded))
            {
                *known = known.and(limits);
            } else {
                all.push(condition);
            }
        }
        match all.as_slice() {
            [Self::Within(bounded, limits)] => Self::Within(*bounded, *limits),
            _ => Self::And(all),
        }
    }

    fn limits_of(&mut self, number: Bounded) -> Option<&mut Limits> {
        match self {
            Self::Within(bounded, limits) if *bounded == number => Some(limits),
            _ => None,
        }
    }
}
