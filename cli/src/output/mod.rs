//! Results on standard output, in the form that was asked for; everything else on standard error.
//!
//! | form | one thing | a list | a stream |
//! |---|---|---|---|
//! | table | fields, one a line | a header and rows | a line each |
//! | json | an object | an array | an object a line |
//! | yaml | a document | a document | a document each |

mod access;
mod alert;
pub mod audit;
mod batch;
mod cluster;
pub mod event;
pub mod metrics;
mod migration;
mod network;
mod node;
mod overview;
mod region;
mod secret;
pub mod series;
mod snapshot;
#[cfg(test)]
mod tests;
mod text;
mod usage;
pub mod vm;

use std::io::{ErrorKind, Write};

use serde::Serialize;

use crate::args::Format;
use crate::failure::Failure;

pub use access::RoleWords;
pub use batch::batch_line;
pub use migration::{progress_line, progress_message};
pub use node::drain_line;
pub use text::{Fields, fields, table, word};

/// A thing that can be a row of a table.
pub trait Row {
    /// Names of the columns.
    const HEADER: &'static [&'static str];

    /// Its cells.
    fn row(&self) -> Vec<String>;
}

/// A thing that can be shown alone.
pub trait Show {
    /// Its fields: name and value, a value may have several lines.
    fn fields(&self) -> Fields;
}

/// Prints results.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    format: Format,
}

impl Printer {
    /// A printer of that form.
    pub fn new(format: Format) -> Self {
        Self { format }
    }

    /// Whether people read it.
    pub fn is_for_people(self) -> bool {
        self.format == Format::Table
    }

    /// Prints one thing.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn one<T: Serialize + Show>(self, thing: &T) -> Result<(), Failure> {
        match self.format {
            Format::Table => print(&fields(&thing.fields())),
            _ => self.encoded(thing),
        }
    }

    /// Prints a list. An empty one says so to people.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn list<T: Serialize + Row>(self, things: &[T], nothing: &str) -> Result<(), Failure> {
        match self.format {
            Format::Table if things.is_empty() => {
                notice(nothing);
                Ok(())
            }
            Format::Table => print(&table(T::HEADER, things.iter().map(Row::row))),
            _ => self.encoded(things),
        }
    }

    /// Prints one thing; people see the list in it.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn whole<T: Serialize, R: Serialize + Row>(
        self,
        thing: &T,
        things: &[R],
        nothing: &str,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Table => self.list(things, nothing),
            _ => self.encoded(thing),
        }
    }

    /// Prints the next thing of a stream; people see the line.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn next<T: Serialize>(self, thing: &T, line: &str) -> Result<(), Failure> {
        match self.format {
            Format::Table => print(&format!("{line}\n")),
            Format::Json => print(&format!("{}\n", encode(serde_json::to_string(thing))?)),
            Format::Yaml => print(&format!("---\n{}", encode(serde_norway::to_string(thing))?)),
        }
    }

    fn encoded<T: Serialize + ?Sized>(self, thing: &T) -> Result<(), Failure> {
        match self.format {
            Format::Yaml => print(&encode(serde_norway::to_string(thing))?),
            _ => print(&format!("{}\n", encode(serde_json::to_string_pretty(thing))?)),
        }
    }
}

fn encode<E: std::error::Error>(encoded: Result<String, E>) -> Result<String, Failure> {
    encoded.map_err(|error| Failure::io("cannot encode the result", &error))
}

/// Writes to standard output at once. If its reader has gone, as `head` does, the program ends in peace.
///
/// # Errors
/// Standard output cannot be written.
pub fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// The same, with bytes as they are.
///
/// # Errors
/// Standard output cannot be written.
pub fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::io("cannot write to standard output", &error)),
        Ok(()) => Ok(()),
    }
}

/// Says something to the person, beside the result.
pub fn notice(text: &str) {
    anstream::eprintln!("{text}");
}

/// One line that is said again when it has changed.
#[derive(Debug)]
pub struct News {
    is_wanted: bool,
    said: String,
}

impl News {
    /// Nothing was said yet; nothing will be if it is not wanted.
    pub fn new(is_wanted: bool) -> Self {
        Self { is_wanted, said: String::new() }
    }

    /// Says how it stands now, unless that is what was said last.
    pub fn say(&mut self, line: String) {
        if self.is_wanted && line != self.said {
            notice(&line);
            self.said = line;
        }
    }
}

/// Says why a command failed: one line, and what would help.
pub fn failure(failure: &Failure) {
    use clap::builder::styling::AnsiColor;
    let (red, cyan) = (AnsiColor::Red.on_default().bold(), AnsiColor::Cyan.on_default());
    anstream::eprintln!("{red}error:{red:#} {}", one_line(&failure.message));
    if let Some(hint) = &failure.hint {
        anstream::eprintln!("{cyan}hint:{cyan:#} {}", one_line(hint));
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
