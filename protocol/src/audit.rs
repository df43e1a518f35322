//! The chain of the audit log: how a record is bound to everything before it. Whoever has the log as text can check it
//! with this, or with any program that knows SHA-256.
//!
//! A text of the log has one line for each record: the record's hash in lower-case hex, one space, the record (JSON
//! without line breaks). The hash is SHA-256 over the 32 bytes of the hash before it (zeros before the first record of
//! all) and the bytes of the record.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// A hash of the chain.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ChainHash(pub [u8; 32]);

impl ChainHash {
    /// The hash of a record that follows one with this hash.
    #[must_use]
    pub fn then(&self, record: &str) -> Self {
        Self(Sha256::new().chain_update(self.0).chain_update(record).finalize().into())
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A text that is no hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 64 hexadecimal digits")]
pub struct NoHash;

impl FromStr for ChainHash {
    type Err = NoHash;

    fn from_str(text: &str) -> Result<Self, NoHash> {
        let mut hash = [0; 32];
        // One way to write a hash, so that every changed bit of a text is found.
        if text.len() != 64 || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(NoHash);
        }
        for (at, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| NoHash)?;
        }
        Ok(Self(hash))
    }
}

/// A line of the log's text.
#[must_use]
pub fn line(hash: &ChainHash, record: &str) -> String {
    format!("{hash} {record}\n")
}

/// Hash and record of a line without its line break.
///
/// # Errors
/// [`Fault::NotALine`].
pub fn parse_line(line: &str) -> Result<(ChainHash, &str), Fault> {
    let (hash, record) = line.split_once(' ').ok_or(Fault::NotALine)?;
    Ok((hash.parse().map_err(|_| Fault::NotALine)?, record))
}

/// What is wrong with a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A line is not `hash record`.
    #[error("it is not a hash and a record")]
    NotALine,
    /// A record, its hash or what was before it is not what was written.
    #[error("its hash does not follow from the record before it")]
    Broken,
    /// Records are missing at the end.
    #[error("the log ends before it: records are missing")]
    Cut,
    /// There are records beyond the end that is known.
    #[error("the log goes on beyond its known end")]
    Beyond,
}

/// A fault and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("record {number}: {fault}")]
pub struct FaultAt {
    /// Number of the first record that cannot be trusted.
    pub number: u64,
    /// What is wrong.
    pub fault: Fault,
}

/// Follows a chain, record by record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// The last record.
    pub number: u64,
    /// Its hash.
    pub hash: ChainHash,
}

impl Chain {
    /// Before the first record of all.
    pub fn start() -> Self {
        Self { number: 0, hash: ChainHash::default() }
    }

    /// Behind a record that is trusted.
    pub fn behind(number: u64, hash: ChainHash) -> Self {
        Self { number, hash }
    }

    /// The next record.
    ///
    /// # Errors
    /// [`FaultAt`]; the chain is as before.
    pub fn follow(&mut self, hash: ChainHash, record: &str) -> Result<(), FaultAt> {
        let number = self.number + 1;
        if self.hash.then(record) != hash {
            return Err(FaultAt { number, fault: Fault::Broken });
        }
        (self.number, self.hash) = (number, hash);
        Ok(())
    }

    /// The records of a text.
    ///
    /// # Errors
    /// The first [`FaultAt`]; the chain is behind what is right.
    pub fn follow_text(&mut self, text: &str) -> Result<(), FaultAt> {
        for line in text.split_terminator('\n') {
            let at = |fault| FaultAt { number: self.number + 1, fault };
            let (hash, record) = parse_line(line).map_err(at)?;
            self.follow(hash, record)?;
        }
        Ok(())
    }

    /// Whether this is the end that is known.
    ///
    /// # Errors
    /// [`FaultAt`]: cut, longer, or another chain.
    pub fn ends_at(&self, number: u64, hash: ChainHash) -> Result<(), FaultAt> {
        let fault = match self.number.cmp(&number) {
            std::cmp::Ordering::Less => Fault::Cut,
            std::cmp::Ordering::Greater => Fault::Beyond,
            std::cmp::Ordering::Equal if self.hash == hash => return Ok(()),
            std::cmp::Ordering::Equal => return Err(FaultAt { number, fault: Fault::Broken }),
        };
        Err(FaultAt { number: self.number.min(number) + 1, fault })
    }
}

/// A record that a log had once: its number and its hash. As text `number:hash`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The number.
    pub number: u64,
    /// The hash.
    pub hash: ChainHash,
}

impl FromStr for Known {
    type Err = NoHash;

    fn from_str(text: &str) -> Result<Self, NoHash> {
        let (number, hash) = text.split_once(':').ok_or(NoHash)?;
        Ok(Self { number: number.parse().map_err(|_| NoHash)?, hash: hash.parse()? })
    }
}

/// Checks a log line by line, so it may be larger than memory. Of a log whose beginning is not kept any more, the first
/// record that is kept is trusted.
#[derive(Debug, Clone, Copy)]
pub struct Verifier {
    chain: Chain,
    first: u64,
    known: Option<Known>,
}

impl Verifier {
    /// Of a log whose first record that is kept is `first`, and that had a record once.
    pub fn new(first: u64, known: Option<Known>) -> Self {
        Self { chain: Chain::start(), first, known }
    }

    /// Takes the next line, without its line break.
    ///
    /// # Errors
    /// [`FaultAt`] of this line.
    pub fn line(&mut self, line: &str) -> Result<(), FaultAt> {
        let number = self.chain.number.max(self.first.saturating_sub(1)) + 1;
        let at = |fault| FaultAt { number, fault };
        let (hash, record) = parse_line(line).map_err(at)?;
        if self.chain.number == 0 && self.first > 1 {
            self.chain = Chain::behind(self.first, hash);
        } else {
            self.chain.follow(hash, record)?;
        }
        match self.known.take_if(|known| known.number == number) {
            Some(known) => self.chain.ends_at(number, known.hash),
            None => Ok(()),
        }
    }

    /// How far the log is, once all of its lines were taken.
    ///
    /// # Errors
    /// [`FaultAt`] behind the last record, if the known one was not among them.
    pub fn end(self) -> Result<Chain, FaultAt> {
        match self.known {
            Some(_) => Err(FaultAt { number: self.chain.number + 1, fault: Fault::Cut }),
            None => Ok(self.chain),
        }
    }

    /// The last record that is right.
    pub fn chain(&self) -> Chain {
        self.chain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(records: u64) -> (String, Chain) {
        let (mut text, mut chain) = (String::new(), Chain::start());
        for number in 1..=records {
            let record = format!("{{\"number\":{number}}}");
            let hash = chain.hash.then(&record);
            text.push_str(&line(&hash, &record));
            chain = Chain::behind(number, hash);
        }
        (text, chain)
    }

    #[test]
    fn what_was_written_is_right() {
        let (text, end) = text(5);
        let mut chain = Chain::start();
        chain.follow_text(&text).unwrap();
        assert_eq!(chain, end);
        chain.ends_at(5, end.hash).unwrap();
    }

    /// The first hash, computed by another program: `printf '\0%.0s' {1..32}` and the record into `sha256sum`.
    #[test]
    fn the_first_hash_is_what_others_compute() {
        let hash = ChainHash::default().then("{\"number\":1}").to_string();
        assert_eq!(hash, FIRST);
    }

    const FIRST: &str = "b4ff2b0a8d6425120a1d45178ba4a98f99fb4642390137300132678d6c10600a";

    #[test]
    fn every_flipped_bit_is_found_and_located() {
        let (text, _) = text(4);
        for at in 0..text.len() {
            for bit in 0..7 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let Ok(damaged) = String::from_utf8(bytes) else { continue };
                let number = 1 + text[..at].matches('\n').count() as u64;
                let found = Chain::start().follow_text(&damaged).unwrap_err();
                assert_eq!(found.number, number, "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn a_cut_tail_is_found_by_the_known_end() {
        let (text, end) = text(4);
        for kept in 0..4 {
            let cut: String = text.split_inclusive('\n').take(kept).collect();
            let mut chain = Chain::start();
            chain.follow_text(&cut).unwrap();
            let found = chain.ends_at(4, end.hash).unwrap_err();
            assert_eq!(found, FaultAt { number: kept as u64 + 1, fault: Fault::Cut });
        }
    }

    #[test]
    fn a_log_without_its_beginning_is_followed_from_its_first_record() {
        let (text, end) = text(4);
        let mut verifier = Verifier::new(3, None);
        text.lines().skip(2).for_each(|line| verifier.line(line).unwrap());
        assert_eq!(verifier.end(), Ok(end));
    }

    #[test]
    fn a_known_record_must_be_there_and_be_the_same() {
        let (text, _) = text(4);
        let verify = |known: &str| {
            let mut verifier = Verifier::new(1, Some(known.parse().unwrap()));
            text.lines().try_for_each(|line| verifier.line(line)).and_then(|()| verifier.end())
        };
        let hash = |number: usize| parse_line(text.lines().nth(number - 1).unwrap()).unwrap().0;
        assert!(verify(&format!("2:{}", hash(2))).is_ok());
        let other = verify(&format!("2:{}", hash(3))).unwrap_err();
        assert_eq!(other, FaultAt { number: 2, fault: Fault::Broken });
        let cut = verify(&format!("9:{}", hash(3))).unwrap_err();
        assert_eq!(cut, FaultAt { number: 5, fault: Fault::Cut });
        assert!("2".parse::<Known>().is_err() && "x:1".parse::<Known>().is_err());
    }

    #[test]
    fn a_record_that_is_left_out_or_moved_is_found() {
        let (text, _) = text(4);
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let without_second = [lines[0], lines[2], lines[3]].concat();
        let found = Chain::start().follow_text(&without_second).unwrap_err();
        assert_eq!(found, FaultAt { number: 2, fault: Fault::Broken });
        let swapped = [lines[0], lines[2], lines[1], lines[3]].concat();
        assert_eq!(Chain::start().follow_text(&swapped).unwrap_err().number, 2);
    }
}
