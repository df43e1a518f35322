//! The main channel without the pages that travel another way.
//!
//! The source's QEMU writes pages into multifd channels and the rest into the main channel; the
//! target's QEMU runs without multifd, and the memory of its *shared* blocks (`pc.ram`) is written
//! by the target agent. [`MainRewriter`] turns the one stream into the other:
//!
//! * pages of shared blocks found on the main channel (zero pages, with
//!   `zero-page-detection=legacy`) come out as [`Progress::SharedPage`];
//! * pages of other blocks pass, and those from the multifd channels, *foreign* pages, are put in by
//!   [`MainRewriter::inject`] at the flush that ends their epoch;
//! * the flush itself is swallowed: to a target without multifd it would be an error;
//! * everything else passes unchanged.
//!
//! A source without multifd writes no flushes, so its pages are all of epoch 0 although they repeat:
//! they must be sent and applied in order, on one lane.
//!
//! Legal because the loader checks no completeness and asks only that the last content of a page
//! comes last; the block names are compressed anew, because CONTINUE speaks of the page before.

use super::block::{BlockList, BlockName, StreamLimits};
use super::input::InputBuffer;
use super::item::{Command, Item, SectionPhase};
use super::parser::{MainParser, StreamError};
use super::writer::MainWriter;
use crate::pages::Page;

/// [`MainRewriter::advance`] asks to be drained from here on. With one more item the output stays
/// below this plus [`super::input::INPUT_BYTES`].
pub const OUTPUT_BYTES_SOFT: usize = 128 * 1024;

/// Why [`MainRewriter::advance`] returned.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// Everything given was used up: read more into [`MainRewriter::space`].
    NeedInput,
    /// Write the output away first, and clear it.
    Drain,
    /// The RAM blocks are known. Once, before any page.
    Blocks(&'a BlockList),
    /// A page of a shared block, for the page pipeline. It belongs to `epoch`.
    SharedPage {
        /// Id of the block.
        block: u16,
        /// Which page of it.
        page_index: u32,
        /// The epoch it belongs to.
        epoch: u32,
        /// What is in it.
        page: Page<'a>,
    },
    /// The source's QEMU put a SYNC packet into every channel: once each channel was read that far,
    /// give the foreign pages of `epoch` to [`MainRewriter::inject`], then call `advance` again.
    Flush {
        /// The epoch that ends here.
        epoch: u32,
    },
    /// The guest of the source is stopped now.
    SwitchoverStart,
    /// No RAM follows. Every page of shared blocks must be applied at the target before it is given
    /// one byte of what `advance` puts out after this: loading devices touches guest memory.
    RamComplete,
}

/// The stream cannot be rewritten.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RewriteError {
    /// It is malformed.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// Something unknown came before the RAM was complete.
    #[error("unknown data before the end of RAM, at byte {offset} of the main migration stream")]
    OpaqueBeforeRamComplete {
        /// Where.
        offset: u64,
    },
    /// A postcopy command: what follows it may not be rewritten.
    #[error("postcopy is announced at byte {offset} of the main migration stream")]
    Postcopy {
        /// Where.
        offset: u64,
    },
    /// A shared block is not among the announced ones.
    #[error("the source's QEMU has no RAM block {name}")]
    SharedBlockMissing {
        /// The missing one.
        name: BlockName,
    },
    /// The main channel ended too early.
    #[error("main migration stream ends early, at byte {offset}")]
    Truncated {
        /// Where.
        offset: u64,
    },
    /// `inject` was called elsewhere than between a flush and the next `advance`.
    #[error("a page was injected outside of a flush")]
    NotAtFlush,
    /// `inject` was given a page of a shared block or one that does not exist.
    #[error("page {page_index} of RAM block {block} cannot be injected")]
    NotForeign {
        /// Id of the block.
        block: u16,
        /// Which page.
        page_index: u32,
    },
}

/// Where the rewriting stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Ram,
    AtFlush,
    /// After the END section of RAM.
    Devices,
}

/// See the module.
#[derive(Debug)]
pub struct MainRewriter {
    input: InputBuffer,
    parser: MainParser,
    writer: MainWriter,
    shared_names: Vec<BlockName>,
    /// By block id.
    shared: Vec<bool>,
    phase: Phase,
    epoch: u32,
    /// Length of the last item, which stays in the buffer while the caller looks at it.
    consume_bytes: usize,
}

/// [`Progress`] without borrows, so that a loop can produce it.
enum Step {
    Next,
    Blocks,
    SharedPage { block: u16, page_index: u32, zero: bool },
    Flush,
    SwitchoverStart,
    RamComplete,
}

impl MainRewriter {
    /// A rewriter at the first byte of a stream whose blocks of these names are shared.
    pub fn new(limits: StreamLimits, shared: impl IntoIterator<Item = BlockName>) -> Self {
        Self {
            input: InputBuffer::new(),
            parser: MainParser::new(limits),
            writer: MainWriter::new(),
            shared_names: shared.into_iter().collect(),
            shared: Vec::new(),
            phase: Phase::Ram,
            epoch: 0,
            consume_bytes: 0,
        }
    }

    /// Where to read the main channel into; never empty after [`Progress::NeedInput`].
    pub fn space(&mut self) -> &mut [u8] {
        self.release();
        self.input.space()
    }

    /// Says that `count` bytes were put at the front of the last [`Self::space`].
    pub fn filled(&mut self, count: usize) {
        self.input.filled(count);
    }

    /// The RAM blocks announced so far.
    pub fn blocks(&self) -> &BlockList {
        self.parser.blocks()
    }

    /// Whether the block with this id is shared.
    pub fn is_shared(&self, block: u16) -> bool {
        self.shared.get(usize::from(block)).is_some_and(|shared| *shared)
    }

    /// Rewrites what was read, appending to `output`, up to the next event.
    ///
    /// `output` goes to the target's QEMU in order. It need not be written before the next call,
    /// except when [`Progress::Drain`] asks for it, but what is put out after
    /// [`Progress::RamComplete`] may not be written before all RAM is applied.
    pub fn advance(&mut self, output: &mut Vec<u8>) -> Result<Progress<'_>, RewriteError> {
        self.release();
        if self.phase == Phase::AtFlush {
            self.phase = Phase::Ram;
            self.epoch = self.epoch.saturating_add(1);
        }
        loop {
            if output.len() >= OUTPUT_BYTES_SOFT {
                return Ok(Progress::Drain);
            }
            match self.step(output)? {
                None => return Ok(Progress::NeedInput),
                Some(Step::Next) => self.release(),
                Some(event) => return Ok(self.progress(event)),
            }
        }
    }

    /// Writes a foreign page. Only between [`Progress::Flush`] and the next [`Self::advance`]; any
    /// number of them, and the caller may drain `output` in between.
    pub fn inject(
        &mut self,
        block: u16,
        page_index: u32,
        page: Page<'_>,
        output: &mut Vec<u8>,
    ) -> Result<(), RewriteError> {
        if self.phase != Phase::AtFlush {
            return Err(RewriteError::NotAtFlush);
        }
        match self.parser.blocks().get(block) {
            Some(known) if u64::from(page_index) < known.pages() && !self.is_shared(block) => {
                self.writer.page(block, &known.name, page_index, page, output);
                Ok(())
            }
            _ => Err(RewriteError::NotForeign { block, page_index }),
        }
    }

    /// To be called when the main channel has ended: whether it may end here.
    pub fn finish(&self) -> Result<(), RewriteError> {
        let unused = self.input.unread().len() > self.consume_bytes;
        if self.phase == Phase::Devices && self.parser.is_opaque() && !unused {
            return Ok(());
        }
        Err(RewriteError::Truncated { offset: self.parser.offset() })
    }

    fn release(&mut self) {
        self.input.consume(std::mem::take(&mut self.consume_bytes));
    }

    /// Handles one item; `None` if there is none.
    fn step(&mut self, output: &mut Vec<u8>) -> Result<Option<Step>, RewriteError> {
        let Some(parsed) = self.parser.next(self.input.unread())? else { return Ok(None) };
        self.consume_bytes = parsed.raw.len();
        let step = match parsed.item {
            Item::RamPage { block, page_index, page } if self.is_shared(block) => {
                Step::SharedPage { block, page_index, zero: page == Page::Zero }
            }
            Item::RamPage { block, page_index, page } => {
                if let Some(known) = self.parser.blocks().get(block) {
                    self.writer.page(block, &known.name, page_index, page, output);
                }
                Step::Next
            }
            Item::MultifdFlush => {
                self.phase = Phase::AtFlush;
                Step::Flush
            }
            item => {
                let step = passing_step(item, self.phase, parsed.offset)?;
                output.extend_from_slice(parsed.raw);
                step
            }
        };
        match step {
            Step::Blocks => self.find_shared()?,
            Step::RamComplete => self.phase = Phase::Devices,
            _ => {}
        }
        Ok(Some(step))
    }

    fn find_shared(&mut self) -> Result<(), RewriteError> {
        let blocks = self.parser.blocks();
        self.shared = vec![false; blocks.len()];
        for name in &self.shared_names {
            let index = blocks
                .index_of(name.as_str())
                .ok_or_else(|| RewriteError::SharedBlockMissing { name: name.clone() })?;
            self.shared[usize::from(index)] = true;
        }
        Ok(())
    }

    fn progress(&self, event: Step) -> Progress<'_> {
        let epoch = self.epoch;
        match event {
            Step::Next => Progress::NeedInput,
            Step::Blocks => Progress::Blocks(self.parser.blocks()),
            Step::SharedPage { block, page_index, zero } => {
                Progress::SharedPage { block, page_index, epoch, page: self.held_page(zero) }
            }
            Step::Flush => Progress::Flush { epoch },
            Step::SwitchoverStart => Progress::SwitchoverStart,
            Step::RamComplete => Progress::RamComplete,
        }
    }

    /// The page of the item that is still held: a PAGE record ends with its bytes.
    fn held_page(&self, zero: bool) -> Page<'_> {
        let record = self.input.unread().get(..self.consume_bytes).unwrap_or_default();
        match record.last_chunk() {
            Some(bytes) if !zero => Page::Data(bytes),
            _ => Page::Zero,
        }
    }
}

/// What an item means that passes as it is, or why it may not pass.
fn passing_step(item: Item<'_>, phase: Phase, offset: u64) -> Result<Step, RewriteError> {
    match item {
        Item::RamBlock { remaining_bytes: 0, .. } => Ok(Step::Blocks),
        Item::Command { command: Command::SwitchoverStart, .. } => Ok(Step::SwitchoverStart),
        Item::Command { command: Command::PostcopyAdvise, .. } => {
            Err(RewriteError::Postcopy { offset })
        }
        Item::SectionFooter { closes: SectionPhase::End, .. } => Ok(Step::RamComplete),
        Item::Opaque if phase != Phase::Devices => {
            Err(RewriteError::OpaqueBeforeRamComplete { offset })
        }
        _ => Ok(Step::Next),
    }
}
