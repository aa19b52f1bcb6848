//! A filter text as tokens.

use super::FilterError;

/// A token and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    /// Byte offset into the text.
    pub(super) position: usize,
    /// What it is.
    pub(super) kind: TokenKind,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TokenKind {
    /// A keyword, or a name without quotes.
    Word(String),
    /// A name in double quotes.
    Quoted(String),
    /// A literal in single quotes.
    Text(String),
    /// Digits with an optional fraction and exponent.
    Number(String),
    /// An operator or a punctuation mark.
    Symbol(&'static str),
    /// The end of the text.
    End,
}

impl TokenKind {
    /// The token as an error shows it.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Word(word) => format!("`{word}`"),
            Self::Quoted(name) => format!("\"{name}\""),
            Self::Text(text) => format!("'{text}'"),
            Self::Number(number) => number.clone(),
            Self::Symbol(symbol) => format!("`{symbol}`"),
            Self::End => "the end of the filter".into(),
        }
    }
}

/// The symbols; a longer one stands before its own beginning.
const SYMBOLS: &[&str] = &[
    "==", "!=", "<>", "<=", ">=", "!~", "=", "<", ">", "~", "(", ")", "[", "]", ",", "-",
];

/// The tokens of `text`; the last is always [`TokenKind::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, FilterError> {
    let mut lexer = Lexer { text, position: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.take_while(char::is_whitespace);
        let position = lexer.position;
        let kind = lexer.token()?;
        let ended = kind == TokenKind::End;
        tokens.push(Token { position, kind });
        if ended {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    position: usize,
}

impl<'a> Lexer<'a> {
    fn token(&mut self) -> Result<TokenKind, FilterError> {
        let rest = self.rest();
        for comment in ["--", "/*"] {
            if rest.starts_with(comment) {
                let expected = "a filter without comments";
                return Err(FilterError::unexpected(self.position, expected, comment));
            }
        }
        match rest.chars().next() {
            None => Ok(TokenKind::End),
            Some('\'') => self.quoted('\'', "a closing '").map(TokenKind::Text),
            Some('"') => self.quoted('"', "a closing \"").map(TokenKind::Quoted),
            Some(c) if c.is_ascii_digit() || c == '.' => self.number(),
            Some(c) if is_word_start(c) => Ok(TokenKind::Word(self.take_while(is_word).into())),
            Some(c) => {
                let symbol = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol));
                let symbol = symbol.ok_or_else(|| {
                    let expected = "a column, a literal or an operator";
                    FilterError::unexpected(self.position, expected, format!("`{c}`"))
                })?;
                self.position += symbol.len();
                Ok(TokenKind::Symbol(symbol))
            }
        }
    }

    /// A text between quotes; a quote in it is written twice.
    fn quoted(&mut self, quote: char, expected: &str) -> Result<String, FilterError> {
        let start = self.position;
        let mut content = String::new();
        loop {
            self.position += quote.len_utf8();
            content.push_str(self.take_while(|c| c != quote));
            if !self.rest().starts_with(quote) {
                let found = TokenKind::End.describe();
                return Err(FilterError::unexpected(start, expected, found));
            }
            self.position += quote.len_utf8();
            if !self.rest().starts_with(quote) {
                return Ok(content);
            }
            content.push(quote);
        }
    }

    fn number(&mut self) -> Result<TokenKind, FilterError> {
        let start = self.position;
        let digit = |c: char| c.is_ascii_digit();
        self.take_while(digit);
        if self.rest().starts_with('.') {
            self.position += 1;
            self.take_while(digit);
        }
        if self.rest().starts_with(['e', 'E']) {
            self.position += 1;
            if self.rest().starts_with(['+', '-']) {
                self.position += 1;
            }
            self.take_while(digit);
        }
        // `5xx`, `1.2.3`, `0x10` and `1e` are no numbers.
        self.take_while(|c| is_word(c) || c == '.');
        let number = self.text.get(start..self.position).unwrap_or_default();
        let well_formed =
            number.bytes().all(|b| b.is_ascii_digit()) || number.parse::<f64>().is_ok();
        if well_formed {
            Ok(TokenKind::Number(number.into()))
        } else {
            Err(FilterError::unexpected(
                start,
                "a number, or a text in single quotes",
                number.to_owned(),
            ))
        }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.position..).unwrap_or_default()
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        self.position += length;
        rest.get(..length).unwrap_or_default()
    }
}

fn is_word_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn is_word(c: char) -> bool {
    is_word_start(c) || c.is_ascii_digit()
}
