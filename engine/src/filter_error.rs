//! What can be wrong with a filter text.

use std::borrow::Cow;

/// Why a filter text is refused. Positions are byte offsets into the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// Something else stands where the language, a column's type or the list
    /// of columns and functions asks for something.
    #[error("at byte {position}: expected {expected}, found {found}")]
    Unexpected {
        /// Where it stands.
        position: usize,
        /// What may stand there.
        expected: String,
        /// What does; where the words are those of the text, cut off after 40 characters.
        found: String,
    },
    /// The text is too long.
    #[error("the text has {found} bytes, more than {limit}")]
    TooLong {
        /// Longest text, in bytes.
        limit: usize,
        /// Length of the text, in bytes.
        found: usize,
    },
    /// Parentheses, `not` and function calls are nested too deep.
    #[error("at byte {position}: nested deeper than {limit} levels")]
    TooDeep {
        /// Where the first level too many begins.
        position: usize,
        /// Most levels.
        limit: usize,
    },
    /// There are too many columns, literals, functions and operators.
    #[error("at byte {position}: more than {limit} columns, literals, functions and operators")]
    TooManyNodes {
        /// Where the first one too many begins.
        position: usize,
        /// Most of them.
        limit: usize,
    },
    /// An `in` list is too long.
    #[error("at byte {position}: more than {limit} values in a list")]
    ListTooLong {
        /// Where the first value too many begins.
        position: usize,
        /// Most values.
        limit: usize,
    },
    /// A pattern, or a text that is searched for, is too long.
    #[error("at byte {position}: the pattern has {found} bytes, more than {limit}")]
    PatternTooLong {
        /// Where the pattern stands.
        position: usize,
        /// Longest pattern, in bytes.
        limit: usize,
        /// Length of the pattern, in bytes.
        found: usize,
    },
}

impl FilterError {
    /// A [`FilterError::Unexpected`]. What was found is cut off unless it is a constant: then
    /// nothing in it comes from a stranger.
    pub(crate) fn unexpected(
        position: usize,
        expected: impl Into<String>,
        found: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::Unexpected {
            position,
            expected: expected.into(),
            found: match found.into() {
                Cow::Borrowed(ours) => ours.to_owned(),
                Cow::Owned(theirs) => cut(&theirs),
            },
        }
    }

    /// Where the error is: a byte offset into the text.
    pub fn position(&self) -> usize {
        match self {
            Self::TooLong { limit, .. } => *limit,
            Self::Unexpected { position, .. }
            | Self::TooDeep { position, .. }
            | Self::TooManyNodes { position, .. }
            | Self::ListTooLong { position, .. }
            | Self::PatternTooLong { position, .. } => *position,
        }
    }

    /// The same error somewhere else.
    pub(crate) fn at(mut self, elsewhere: usize) -> Self {
        match &mut self {
            Self::TooLong { .. } => {}
            Self::Unexpected { position, .. }
            | Self::TooDeep { position, .. }
            | Self::TooManyNodes { position, .. }
            | Self::ListTooLong { position, .. }
            | Self::PatternTooLong { position, .. } => *position = elsewhere,
        }
        self
    }

    /// The error for a person: the line of `text` that it is in (at most 60
    /// characters to each side), a caret under the place, and the sentence.
    pub fn render(&self, text: &str) -> String {
        const WINDOW: usize = 60;
        let position = text.floor_char_boundary(self.position());
        let (before, after) = text.split_at(position);
        let before = before.rsplit('\n').next().unwrap_or_default();
        let after = after.split('\n').next().unwrap_or_default();
        // Control characters would move the caret, or the terminal's cursor.
        let shown = |c: char| if c.is_control() { ' ' } else { c };
        let skipped = before.chars().count().saturating_sub(WINDOW);
        let left: String = before.chars().skip(skipped).map(shown).collect();
        let right: String = after.chars().take(WINDOW).map(shown).collect();
        let indent = " ".repeat(left.chars().count());
        format!("{left}{right}\n{indent}^\n{self}")
    }
}

/// The start of what was found; control characters, which may come from a
/// stranger, are escaped.
pub(crate) fn cut(text: &str) -> String {
    const LONGEST: usize = 40;
    let mut start: String = text
        .chars()
        .take(LONGEST)
        .flat_map(escape_control)
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        start.push('…');
    }
    start
}

fn escape_control(c: char) -> impl Iterator<Item = char> {
    let escaped = c.is_control().then(|| c.escape_default());
    let plain = escaped.is_none().then_some(c);
    escaped.into_iter().flatten().chain(plain)
}
