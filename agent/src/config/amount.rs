//! `"auto"` or an amount.

use std::fmt;

use novacron_protocol::size::parse_size_bytes;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

/// How much of something the host lends: bytes, written as a size or a number, or a count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Amount {
    /// What there is, less a share for the host.
    #[default]
    Auto,
    /// This much.
    Fixed(u64),
}

impl Amount {
    /// The amount, or what `auto` says.
    pub fn or_auto(self, auto: impl FnOnce() -> u64) -> u64 {
        match self {
            Self::Auto => auto(),
            Self::Fixed(amount) => amount,
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AmountVisitor)
    }
}

struct AmountVisitor;

impl Visitor<'_> for AmountVisitor {
    type Value = Amount;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("\"auto\", a number, or a size such as \"28GiB\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Amount, E> {
        match text {
            "auto" => Ok(Amount::Auto),
            text => parse_size_bytes(text).map(Amount::Fixed).map_err(E::custom),
        }
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Amount, E> {
        let amount = u64::try_from(number).map_err(|_| E::custom("an amount is not negative"))?;
        Ok(Amount::Fixed(amount))
    }
}
