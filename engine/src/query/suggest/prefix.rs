//! What a text begins with.

/// What a text begins with, in any case: letter by letter, as Unicode has their small ones.
#[derive(Debug, Clone, Default)]
pub(in crate::query) struct Prefix {
    /// In small letters.
    lower: String,
}

impl Prefix {
    pub(in crate::query) fn new(text: &str) -> Self {
        Self {
            lower: text.chars().flat_map(char::to_lowercase).collect(),
        }
    }

    /// Whether every text begins with it.
    pub(in crate::query) fn is_empty(&self) -> bool {
        self.lower.is_empty()
    }

    /// Whether a text begins with it.
    pub(in crate::query) fn is_of(&self, text: &str) -> bool {
        let mut letters = text.chars().flat_map(char::to_lowercase);
        self.lower
            .chars()
            .all(|letter| letters.next() == Some(letter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_does_not_matter() {
        for (prefix, text, expected) in [
            ("", "", true),
            ("", "anything", true),
            ("a", "", false),
            ("DB.sys", "db.System", true),
            ("db.system.", "db.system", false),
            ("b", "db", false),
            ("ÜB", "über", true),
            ("uber", "über", false),
            // The sign of the Kelvin.
            ("k", "\u{212a}elvin", true),
            // Its small letter is two characters.
            ("\u{130}s", "\u{130}STANBUL", true),
            ("i", "\u{130}stanbul", true),
            ("%_*", "%_*x", true),
            ("%", "x", false),
        ] {
            assert_eq!(Prefix::new(prefix).is_of(text), expected, "{prefix} {text}");
        }
        assert!(Prefix::default().is_empty() && !Prefix::new(" ").is_empty());
    }
}
