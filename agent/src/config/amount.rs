//! `"auto"` or an amount.

use std::fmt;
use std::marker::PhantomData;

use novacron_protocol::size::parse_size_bytes;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

/// How much of something the host lends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount<U> {
    /// What there is, less a share for the host.
    Auto,
    /// This much.
    Fixed(u64, PhantomData<U>),
}

impl<U> Default for Amount<U> {
    fn default() -> Self {
        Self::Auto
    }
}

impl<U> Amount<U> {
    /// The amount, or what `auto` says.
    pub fn or_auto(self, auto: impl FnOnce() -> u64) -> u64 {
        match self {
            Self::Auto => auto(),
            Self::Fixed(amount, _) => amount,
        }
    }
}

/// How an amount is written.
pub trait Unit {
    /// The amount in a text.
    ///
    /// # Errors
    /// What is wrong with it.
    fn parse(text: &str) -> Result<u64, String>;
    /// What would be right.
    const EXPECTED: &'static str;
}

/// Bytes, written as sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bytes {}

/// A number of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {}

impl Unit for Bytes {
    fn parse(text: &str) -> Result<u64, String> {
        parse_size_bytes(text).map_err(|error| error.to_string())
    }

    const EXPECTED: &'static str = "\"auto\" or a size such as \"28GiB\"";
}

impl Unit for Count {
    fn parse(text: &str) -> Result<u64, String> {
        text.parse().map_err(|_| format!("`{text}` is not {}", Self::EXPECTED))
    }

    const EXPECTED: &'static str = "\"auto\" or a number such as 16";
}

impl<'de, U: Unit> Deserialize<'de> for Amount<U> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AmountVisitor(PhantomData))
    }
}

struct AmountVisitor<U>(PhantomData<U>);

impl<U: Unit> Visitor<'_> for AmountVisitor<U> {
    type Value = Amount<U>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(U::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Amount<U>, E> {
        if text == "auto" {
            return Ok(Amount::Auto);
        }
        let amount = U::parse(text).map_err(E::custom)?;
        Ok(Amount::Fixed(amount, PhantomData))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Amount<U>, E> {
        let amount = u64::try_from(number).map_err(|_| E::custom("an amount is not negative"))?;
        Ok(Amount::Fixed(amount, PhantomData))
    }
}
