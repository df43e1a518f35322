//! The disk: numbered blocks with a sum, written around a region and read back past the cache.
//!
//! Writes go straight to the device, one at a time, and the next is begun only when the last is
//! done; so what the shadow remembers is what the device has promised to hold.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::content::{self, Random};
use crate::orders::Sweep;
use crate::pace::Pace;
use crate::parameters::Parameters;
use crate::report;
use crate::tally::Tally;

/// The first virtio disk.
const DEVICE: &str = "/dev/vda";
/// `O_DIRECT` on x86-64: past the page cache, with buffers aligned to a page.
const O_DIRECT: i32 = 0o40000;

/// Bytes of one block.
pub const BLOCK_BYTES: usize = 64 * 1024;
const BLOCK_WORDS: usize = BLOCK_BYTES / 8;
const HEADER_WORDS: usize = 4;
const MAGIC: u64 = 0x4e43_424c_4f43_4b31;
const ROUND: Duration = Duration::from_millis(20);

/// A block in a buffer that the device can read from directly.
#[repr(C, align(4096))]
struct Block {
    bytes: [u8; BLOCK_BYTES],
}

/// The blocks that are written around, and what each must hold.
pub struct Region {
    file: File,
    buffer: Box<Block>,
    /// The sequence of the last write to each block; nought where none was made by this boot.
    shadow: Vec<u64>,
    sequence: u64,
    random: Random,
}

/// A block that is not what it must be.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    block: usize,
    expected: String,
    found: String,
}

impl Region {
    /// Opens the device; the reason why not is for the person who reads the console.
    pub fn open(parameters: &Parameters) -> Result<Self, String> {
        if parameters.disk_bytes_per_s == 0 {
            return Err("disk_rate=0".to_owned());
        }
        if !Path::new(DEVICE).exists() {
            return Err(format!("there is no {DEVICE}"));
        }
        let file = OpenOptions::new().read(true).write(true).custom_flags(O_DIRECT).open(DEVICE);
        let file = file.map_err(|error| format!("{DEVICE}: {error}"))?;
        let device_bytes = device_bytes(&file).map_err(|error| format!("{DEVICE}: {error}"))?;
        let mut region = Self::over(file, device_bytes.min(parameters.disk_region_bytes))?;
        if parameters.is_disk_filled {
            region.fill().map_err(|error| format!("{DEVICE}: {error}"))?;
        }
        Ok(region)
    }

    fn over(file: File, bytes: u64) -> Result<Self, String> {
        let blocks = usize::try_from(bytes / BLOCK_BYTES as u64).unwrap_or(usize::MAX);
        if blocks < 2 {
            return Err(format!("{bytes} bytes are too small"));
        }
        let buffer = Box::new(Block { bytes: [0; BLOCK_BYTES] });
        Ok(Self { file, buffer, shadow: vec![0; blocks], sequence: 0, random: Random::new(1, 1) })
    }

    /// Writes every block once.
    fn fill(&mut self) -> io::Result<()> {
        (0..self.shadow.len()).try_for_each(|_| self.write_next())
    }

    /// Writes the next block of the round.
    fn write_next(&mut self) -> io::Result<()> {
        self.sequence += 1;
        let block = (self.sequence as usize - 1) % self.shadow.len();
        self.buffer.fill(block, self.sequence);
        // While a write is under way the block may hold either, so it is not compared.
        self.shadow[block] = 0;
        self.file.write_all_at(&self.buffer.bytes, offset(block))?;
        self.shadow[block] = self.sequence;
        Ok(())
    }

    /// Reads back a block that was written before, any of them.
    fn check_any(&mut self) -> io::Result<Option<Fault>> {
        let written = self.shadow.len().min(self.sequence as usize);
        let block = self.random.below(written.max(1));
        self.check(block)
    }

    /// Reads back a block if it was written before.
    fn check(&mut self, block: usize) -> io::Result<Option<Fault>> {
        let expected = self.shadow[block];
        if expected == 0 {
            return Ok(None);
        }
        self.file.read_exact_at(&mut self.buffer.bytes, offset(block))?;
        let fault = self.buffer.compare(block, expected);
        if fault.is_some() {
            // Said once; the next round writes it anew.
            self.shadow[block] = 0;
        }
        Ok(fault)
    }

    /// What an earlier boot left.
    fn survey(&mut self) -> io::Result<Survey> {
        let mut survey = Survey::default();
        for block in 0..self.shadow.len() {
            self.file.read_exact_at(&mut self.buffer.bytes[..4096], offset(block))?;
            if self.buffer.word(0) != MAGIC {
                continue;
            }
            self.file.read_exact_at(&mut self.buffer.bytes, offset(block))?;
            let sequence = self.buffer.word(2);
            match self.buffer.compare(block, sequence) {
                None => survey.note_whole(sequence),
                Some(_) => survey.broken += 1,
            }
        }
        Ok(survey)
    }
}

/// What an earlier boot left.
#[derive(Debug, Default, PartialEq, Eq)]
struct Survey {
    /// Blocks that are whole.
    whole: usize,
    /// Blocks that look like ours and are not whole.
    broken: usize,
    /// The sequence of the last write that arrived.
    newest: u64,
}

impl Survey {
    fn note_whole(&mut self, sequence: u64) {
        self.whole += 1;
        self.newest = self.newest.max(sequence);
    }
}

impl Block {
    /// Layout in words: magic, block number, sequence, sum of the body, body.
    fn fill(&mut self, block: usize, sequence: u64) {
        let mut words = [0; BLOCK_WORDS];
        let mut random = Random::new(block as u64, sequence);
        let body = &mut words[HEADER_WORDS..];
        if block % 2 == 1 {
            content::fill_random(body, &mut random);
        } else {
            content::fill_structured(body, &mut random);
        }
        let sum = content::sum(body);
        words[..HEADER_WORDS].copy_from_slice(&[MAGIC, block as u64, sequence, sum]);
        for (bytes, word) in self.bytes.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }

    fn word(&self, place: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.bytes[place * 8..place * 8 + 8]);
        u64::from_le_bytes(bytes)
    }

    fn compare(&self, block: usize, sequence: u64) -> Option<Fault> {
        let body_sum = (HEADER_WORDS..BLOCK_WORDS).fold(0, |sum: u64, place| {
            sum.wrapping_add(content::share(place - HEADER_WORDS, self.word(place)))
        });
        let header = [self.word(0), self.word(1), self.word(2)];
        if header == [MAGIC, block as u64, sequence] && self.word(3) == body_sum {
            return None;
        }
        Some(Fault {
            block,
            expected: format!(
                "magic:{MAGIC:016x},number:{block},sequence:{sequence},sum:{:016x}",
                self.word(3)
            ),
            found: format!(
                "magic:{:016x},number:{},sequence:{},sum:{body_sum:016x}",
                header[0], header[1], header[2]
            ),
        })
    }
}

/// Writes and reads back until the program ends; an order to sweep reads back every block at once. An error of the
/// device is a fault, and the end: the guest would only say the same again and again.
pub fn run(mut region: Region, bytes_per_s: u64, tally: &Tally, sweeps: &Receiver<Sweep>) {
    if let Err(error) = work(&mut region, bytes_per_s, tally, sweeps) {
        tally.fault(format_args!("disk error={error}"));
    }
}

fn work(
    region: &mut Region,
    bytes_per_s: u64,
    tally: &Tally,
    sweeps: &Receiver<Sweep>,
) -> io::Result<()> {
    // What this boot has filled says nothing of an earlier one.
    if region.sequence == 0 {
        say_what_is_there(region)?;
    }
    let mut pace = Pace::new(bytes_per_s, Instant::now());
    let mut due_bytes = 0;
    loop {
        due_bytes += pace.due(Instant::now());
        while due_bytes >= BLOCK_BYTES as u64 {
            due_bytes -= BLOCK_BYTES as u64;
            region.write_next()?;
            tally.disk_written();
            let fault = region.check_any()?;
            count(fault, tally);
        }
        match sweeps.recv_timeout(ROUND) {
            Ok(Sweep) => sweep(region, tally)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

fn say_what_is_there(region: &mut Region) -> io::Result<()> {
    let Survey { whole, broken, newest } = region.survey()?;
    report::line(format_args!(
        "disk blocks={} from_earlier_boot={whole} broken_by_earlier_boot={broken} newest={newest}",
        region.shadow.len()
    ));
    Ok(())
}

fn count(fault: Option<Fault>, tally: &Tally) {
    if let Some(fault) = fault {
        tally.fault(format_args!(
            "disk block={} expected={} found={}",
            fault.block, fault.expected, fault.found
        ));
    }
    tally.disk_checked();
}

fn sweep(region: &mut Region, tally: &Tally) -> io::Result<()> {
    for block in 0..region.shadow.len() {
        let fault = region.check(block)?;
        count(fault, tally);
    }
    let (blocks, faults) = (region.shadow.len(), tally.counts().faults);
    report::line(format_args!("disk swept blocks={blocks} faults={faults}"));
    Ok(())
}

fn offset(block: usize) -> u64 {
    (block * BLOCK_BYTES) as u64
}

/// A block device's size is where its end is: its metadata say nought.
fn device_bytes(mut file: &File) -> io::Result<u64> {
    io::Seek::seek(&mut file, io::SeekFrom::End(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCKS: usize = 8;

    fn region(name: &str) -> Region {
        let path =
            std::env::temp_dir().join(format!("novacron-guest-{}-{name}", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.set_len((BLOCKS * BLOCK_BYTES) as u64).unwrap();
        Region::over(file, (BLOCKS * BLOCK_BYTES) as u64).unwrap()
    }

    fn survey(whole: usize, broken: usize, newest: u64) -> Survey {
        Survey { whole, broken, newest }
    }

    fn check_block(region: &mut Region, block: usize) -> Option<Fault> {
        let expected = region.shadow[block];
        region.file.read_exact_at(&mut region.buffer.bytes, offset(block)).unwrap();
        region.buffer.compare(block, expected)
    }

    #[test]
    fn what_was_written_is_found_whole() {
        let mut region = region("whole");
        (0..20).for_each(|_| region.write_next().unwrap());
        assert!((0..BLOCKS).all(|block| check_block(&mut region, block).is_none()));
        assert_eq!(region.survey().unwrap(), survey(BLOCKS, 0, 20));
    }

    #[test]
    fn a_region_that_was_filled_is_whole_and_a_sweep_finds_what_is_not() {
        let mut region = region("filled");
        region.fill().unwrap();
        assert_eq!(region.survey().unwrap(), survey(BLOCKS, 0, 8));
        let tally = Tally::default();
        sweep(&mut region, &tally).unwrap();
        assert_eq!(tally.counts().faults, 0);
        region.file.write_all_at(&[0; 4096], offset(6)).unwrap();
        sweep(&mut region, &tally).unwrap();
        assert_eq!((tally.counts().faults, tally.counts().disk_checked_blocks), (1, 16));
    }

    #[test]
    fn a_lost_write_is_found() {
        let mut region = region("lost");
        (0..9).for_each(|_| region.write_next().unwrap());
        let mut old = vec![0; BLOCK_BYTES];
        region.file.read_exact_at(&mut old, offset(1)).unwrap();
        region.write_next().unwrap();
        region.file.write_all_at(&old, offset(1)).unwrap();
        assert_eq!(check_block(&mut region, 1).unwrap().block, 1);
    }

    #[test]
    fn a_torn_and_a_moved_block_are_found() {
        let mut region = region("torn");
        (0..8).for_each(|_| region.write_next().unwrap());
        region.file.write_all_at(&[0; 4096], offset(3) + 32768).unwrap();
        let mut other = vec![0; BLOCK_BYTES];
        region.file.read_exact_at(&mut other, offset(5)).unwrap();
        region.file.write_all_at(&other, offset(6)).unwrap();
        assert!(check_block(&mut region, 3).is_some());
        assert!(check_block(&mut region, 6).is_some());
        assert_eq!(region.survey().unwrap(), survey(BLOCKS - 2, 2, 8));
    }
}
