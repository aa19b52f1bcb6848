//! Patterns of `like` and regular expressions.

use super::syntax::Text;
use super::{FilterError, FilterLimits};

/// Largest compiled regular expression, in bytes.
const COMPILED_BYTES: usize = 1 << 20;

/// Checks the length of a pattern, or of a text that is searched for.
///
/// # Errors
/// [`FilterError::PatternTooLong`]
pub(super) fn check_length(pattern: &Text, limits: &FilterLimits) -> Result<(), FilterError> {
    let (position, found, limit) = (pattern.position, pattern.content.len(), limits.pattern);
    if found > limit {
        return Err(FilterError::PatternTooLong {
            position,
            limit,
            found,
        });
    }
    Ok(())
}

/// The pattern as Arrow reads it: only `%`, `_` and the backslash itself are
/// escaped, by a backslash, and runs of `%`, which would cost time for every
/// row, are one.
///
/// # Errors
/// [`FilterError::PatternTooLong`]; [`FilterError::Unexpected`] when the escape
/// is not one character, or stands before something that needs none.
pub(super) fn like(
    pattern: &Text,
    escape: Option<&Text>,
    limits: &FilterLimits,
) -> Result<String, FilterError> {
    check_length(pattern, limits)?;
    let escape = match escape {
        None => '\\',
        Some(escape) => {
            let mut characters = escape.content.chars();
            let (Some(character), None) = (characters.next(), characters.next()) else {
                let found = format!("'{}'", escape.content);
                let expected = "one character in single quotes";
                return Err(FilterError::unexpected(escape.position, expected, found));
            };
            character
        }
    };
    let mut result = String::with_capacity(pattern.content.len());
    let mut after_any = false;
    let mut characters = pattern.content.chars();
    while let Some(character) = characters.next() {
        if character == escape {
            match characters.next() {
                Some(next) if next == '%' || next == '_' || next == escape => {
                    push_literal(&mut result, next);
                }
                next => {
                    let expected = format!("`%`, `_` or `{escape}` after the escape `{escape}`");
                    let found = next.map_or("the end of the pattern".into(), |c| format!("`{c}`"));
                    return Err(FilterError::unexpected(pattern.position, expected, found));
                }
            }
            after_any = false;
        } else if character == '%' {
            if !after_any {
                result.push('%');
            }
            after_any = true;
        } else {
            if character == '_' {
                result.push('_');
            } else {
                push_literal(&mut result, character);
            }
            after_any = false;
        }
    }
    Ok(result)
}

pub(super) fn push_literal(pattern: &mut String, character: char) {
    if matches!(character, '%' | '_' | '\\') {
        pattern.push('\\');
    }
    pattern.push(character);
}

/// Checks a regular expression: its length, its syntax, its compiled size.
///
/// # Errors
/// [`FilterError::PatternTooLong`]; [`FilterError::Unexpected`] when it does
/// not compile, or to more than 1 MiB.
pub(super) fn check_regex(pattern: &Text, limits: &FilterLimits) -> Result<(), FilterError> {
    check_length(pattern, limits)?;
    let built = regex::RegexBuilder::new(&pattern.content)
        .size_limit(COMPILED_BYTES)
        .build();
    let Err(error) = built else { return Ok(()) };
    let expected = match &error {
        regex::Error::CompiledTooBig(_) => "a regular expression that compiles to 1 MiB".into(),
        other => {
            let reason = other.to_string();
            let reason = reason.rsplit("error: ").next().unwrap_or_default();
            format!("a regular expression ({})", reason.trim())
        }
    };
    Err(FilterError::unexpected(
        pattern.position,
        expected,
        format!("'{}'", pattern.content),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(content: &str) -> Text {
        Text {
            position: 0,
            content: content.into(),
        }
    }

    #[test]
    fn patterns_are_escaped_in_one_way() {
        let limits = FilterLimits::default();
        for (pattern, escape, expected) in [
            ("a%b_", None, Some("a%b_")),
            (r"50\%", None, Some(r"50\%")),
            ("50!%", Some("!"), Some(r"50\%")),
            (r"c:\dir%", Some("!"), Some(r"c:\\dir%")),
            ("a!!b", Some("!"), Some("a!b")),
            ("%%%a%%", None, Some("%a%")),
            (r"%\%%", None, Some(r"%\%%")),
            (r"a\", None, None),
            (r"a\b", None, None),
            ("a", Some("!!"), None),
            ("a", Some(""), None),
        ] {
            let escape = escape.map(text);
            let found = like(&text(pattern), escape.as_ref(), &limits);
            assert_eq!(found.ok().as_deref(), expected, "{pattern}");
        }
        assert!(like(&text(&"x".repeat(1025)), None, &limits).is_err());
    }

    #[test]
    fn regular_expressions_are_bounded() {
        let limits = FilterLimits::default();
        for good in ["", "^/api/.*$", "(a|aa)+$", "(?i)x"] {
            assert_eq!(check_regex(&text(good), &limits), Ok(()), "{good}");
        }
        let bomb = format!("({})", vec!["a{900}"; 100].join("|"));
        for bad in [
            "(",
            "a{1000}{1000}",
            "(((a{100}){100}){100}){100}",
            "*",
            bomb.as_str(),
        ] {
            let error = check_regex(&text(bad), &limits).unwrap_err();
            assert!(
                error.to_string().contains("a regular expression"),
                "{error}"
            );
        }
    }
}
