//! A few named values: what `usage`, `seal`, `check` and their like print.

use std::io::Write;

use serde_json::{Map, Value};

use crate::arguments::Format;
use crate::error::Error;

/// Named values in an order.
#[derive(Debug, Clone, Default)]
pub struct Report(Map<String, Value>);

impl Report {
    /// An empty report.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// Writes the report as one JSON object on a line, or as lines for people.
    ///
    /// # Errors
    /// [`Error::Io`] when the output cannot be written.
    pub fn write(&self, format: Format, out: &mut (impl Write + ?Sized)) -> Result<(), Error> {
        if format == Format::Json {
            serde_json::to_writer(&mut *out, &self.0).map_err(std::io::Error::from)?;
            writeln!(out)?;
        } else {
            let width = self
                .0
                .keys()
                .map(|name| name.chars().count())
                .max()
                .unwrap_or(0);
            for (name, value) in &self.0 {
                let name = name.replace('_', " ");
                match value {
                    Value::Object(parts) => {
                        for (part, value) in parts {
                            writeln!(out, "{name:<width$}  {part}: {}", plain(value))?;
                        }
                    }
                    Value::Array(elements) => {
                        for element in elements {
                            writeln!(out, "{name:<width$}  {}", plain(element))?;
                        }
                    }
                    value => writeln!(out, "{name:<width$}  {}", plain(value))?,
                }
            }
        }
        out.flush()?;
        Ok(())
    }
}

/// Text and numbers as they are; the fields of an object with spaces between.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_u64() {
            Some(number) => grouped(number),
            None => number.to_string(),
        },
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| format!("{name} {}", plain(value)));
            fields.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// An integer with a comma every three digits.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
