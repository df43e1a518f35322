//! Memory that leaves: the threads of a source and what they share.

use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;

use novacron_protocol::pages::batch::BATCH_BYTES_MAX;
use novacron_protocol::pages::{BatchEncoder, EncodeError, PAGE_BYTES, PageHasher, PageTable};
use novacron_protocol::qemu::StreamLimits;
use novacron_protocol::qemu::return_path::ReturnMessage;
use novacron_protocol::session::main_stream::MAIN_FRAME_BYTES_MAX;
use novacron_protocol::session::message::{MemoryDigest, StreamHeader};
use novacron_protocol::session::tunnel::TUNNEL_FRAME_BYTES_MAX;
use novacron_protocol::wire::codec;
use novacron_transport::connection::Closed;
use novacron_transport::{Connection, FrameError, FramedSend};
use quinn::SendStream;
use tokio::sync::mpsc;

use super::boot_pages::{BootFile, BootIndex, BootPages};
use super::counters::MemoryCounters;
use super::lane_out::{LaneError, LaneOut};
use super::level::LevelControl;
use super::main_out::{MainError, MainOut};
use super::meeting::{Meeting, Over};
use super::pace::Pace;
use super::sent_pages::SentPages;
use super::sharing::Sharing;
use super::sockets;
use super::tunnel_out::TunnelOut;
use crate::migrate::cache::{Image, ImageOrigin, Images, Shadow};
use crate::migrate::digest::memory_digest;
use crate::migrate::library::{Catalogue, Voucher};
use crate::migrate::relay::{Outlet, Outlets};
use crate::reason::reason;

/// How memory leaves.
#[derive(Debug, Clone, Copy)]
pub enum OutgoingForm {
    /// Page by page.
    Pages(PagesPlan),
    /// As bytes that are not understood.
    Tunnel,
}

/// How memory leaves page by page.
#[derive(Debug, Clone, Copy)]
pub struct PagesPlan {
    /// Multifd channels of QEMU. There is one lane more: for pages that come by the main channel.
    pub channels: u8,
    /// Seed of the content hashes.
    pub hash_seed: u64,
    /// zstd's level for page batches at first; it follows the link from then on.
    pub compression_level: i32,
    /// Percent of one processor that all lanes together may take.
    pub processor_percent_max: u64,
    /// Limits of QEMU's stream.
    pub limits: StreamLimits,
}

/// What the target has before anything is sent.
#[derive(Debug)]
pub struct Knowledge {
    /// Files that both ends have and the guest was booted from.
    pub boot_files: Vec<BootFile>,
    /// The guest's memory as the target has it.
    pub base: Option<Image>,
    /// Where room for what is sent is taken from.
    pub images: Images,
    /// What the target keeps of other machines.
    pub catalogue: Option<Arc<Catalogue>>,
}

impl OutgoingForm {
    /// Multifd channels that QEMU shall use; 0 means no multifd.
    pub fn channels(&self) -> u8 {
        match self {
            Self::Pages(plan) => plan.channels,
            Self::Tunnel => 0,
        }
    }

    fn level_control(&self) -> LevelControl {
        match self {
            Self::Pages(plan) => {
                LevelControl::new(plan.compression_level, plan.processor_percent_max)
            }
            Self::Tunnel => LevelControl::new(1, 100),
        }
    }
}

/// What the threads have to say.
#[derive(Debug)]
pub enum OutgoingEvent {
    /// QEMU has gone over all of the memory, or all that was written since the last time. May be left out when many
    /// follow each other.
    RoundEnded,
    /// QEMU stopped the guest and begins with the last round.
    SwitchoverBegun,
    /// All memory is on the lanes; device state follows.
    MemorySent(MemoryDigest),
    /// A channel or stream failed.
    Failed {
        /// For a person.
        reason: String,
    },
}

/// What the threads share.
#[derive(Debug)]
pub(super) struct OutgoingShared {
    pub meeting: Meeting,
    pub counters: Arc<MemoryCounters>,
    pub pace: Pace,
    pub boot: BootIndex,
    knowledge: Mutex<Option<(Option<Image>, Images)>>,
    sent: OnceLock<Mutex<SentPages>>,
    events: mpsc::Sender<OutgoingEvent>,
}

impl OutgoingShared {
    /// The guest has so many pages. A second announcement cannot come: the rewriter reports the blocks once.
    pub(super) fn begin_pages(&self, pages: u32) {
        let knowledge = self.knowledge.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((base, images)) = knowledge else { return };
        images.make_room(u64::from(pages) * PAGE_BYTES as u64);
        let fitting = base.filter(|base| base.table.pages() == pages as usize);
        let (table, shadow) = match fitting {
            Some(base) => (base.table, base.shadow),
            None => (PageTable::new(pages), Shadow::new(pages as usize, images.budget())),
        };
        let budget = images.budget();
        let free = budget.limit_bytes().saturating_sub(budget.used_bytes()) + shadow.bytes();
        let _ = self.sent.set(Mutex::new(SentPages::new(table, shadow, free)));
    }

    /// What the target has. The lanes know the blocks only after it was made.
    pub(super) fn sent_pages(&self) -> Result<MutexGuard<'_, SentPages>, Over> {
        let sent = self.sent.get().ok_or(Over)?;
        Ok(sent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn digest(&self) -> Result<MemoryDigest, Over> {
        Ok(memory_digest(super::SHARED_BLOCK, self.sent_pages()?.table()))
    }

    /// Tells the owner, unless it is busy.
    pub(super) fn mention(&self, event: OutgoingEvent) {
        let _ = self.events.try_send(event);
    }

    /// Tells the owner. It reads until the threads have ended, so this waits at most for its turn.
    pub(super) fn say(&self, event: OutgoingEvent) {
        let _ = self.events.blocking_send(event);
    }
}

/// Events that may wait for the owner; there are a handful in a migration.
const EVENTS_MAX: usize = 16;

/// Memory on its way out.
#[derive(Debug)]
pub struct Outgoing {
    shared: Arc<OutgoingShared>,
    catalogue: Option<Arc<Catalogue>>,
    vouchers: Vec<Arc<Voucher>>,
    sockets: Vec<UnixStream>,
    threads: Vec<JoinHandle<()>>,
}

/// Why memory cannot begin to leave.
#[derive(Debug, thiserror::Error)]
pub enum OutgoingError {
    /// A stream cannot be opened.
    #[error("cannot open a stream to the target")]
    Open(#[source] Closed),
    /// A stream's header cannot be sent.
    #[error("cannot begin a stream to the target")]
    Header(#[source] FrameError),
    /// A socket or thread cannot be had.
    #[error("the host gives no socket or thread for the migration")]
    Resources(#[source] std::io::Error),
    /// A file that the guest was booted from cannot be read.
    #[error("a file that the guest was booted from cannot be read")]
    BootFile(#[source] std::io::Error),
    /// zstd cannot be set up.
    #[error("pages cannot be compressed")]
    Encoder(#[from] EncodeError),
}

impl Outgoing {
    /// Starts the threads over QEMU's sockets: the main channel first, then one per lane.
    ///
    /// # Errors
    /// [`OutgoingError`]; nothing is left running then.
    pub async fn start(
        sockets: Vec<UnixStream>,
        outlets: &mut Outlets,
        form: OutgoingForm,
        knowledge: Knowledge,
    ) -> Result<(Self, mpsc::Receiver<OutgoingEvent>), OutgoingError> {
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let Knowledge { boot_files, base, images, catalogue } = knowledge;
        let shared = Arc::new(OutgoingShared {
            meeting: Meeting::new(usize::from(form.channels())),
            counters: Arc::default(),
            pace: Pace::new(form.level_control()),
            boot: index_files(form, boot_files).await?,
            knowledge: Mutex::new(Some((base, images))),
            sent: OnceLock::new(),
            events,
        });
        let copies = sockets.iter().map(UnixStream::try_clone).collect::<Result<Vec<_>, _>>();
        let sockets_kept = copies.map_err(OutgoingError::Resources)?;
        let mut outgoing = Self {
            shared,
            catalogue,
            vouchers: Vec::new(),
            sockets: sockets_kept,
            threads: Vec::new(),
        };
        let mut sockets = sockets.into_iter();
        if let Some(main) = sockets.next() {
            match form {
                OutgoingForm::Pages(plan) => {
                    outgoing.start_lanes(main, sockets, outlets, plan)?;
                }
                OutgoingForm::Tunnel => outgoing.start_tunnel(main, outlets)?,
            }
        }
        Ok((outgoing, receiver))
    }

    fn start_tunnel(
        &mut self,
        socket: UnixStream,
        outlets: &mut Outlets,
    ) -> Result<(), OutgoingError> {
        let tunnel = TunnelOut {
            socket,
            stream: outlets.open(StreamHeader::Main, TUNNEL_FRAME_BYTES_MAX),
            shared: Arc::clone(&self.shared),
        };
        self.spawn("tunnel-out".to_owned(), move || tunnel.run().err().map(|error| reason(&error)))
    }

    fn start_lanes(
        &mut self,
        main_socket: UnixStream,
        sockets: impl Iterator<Item = UnixStream>,
        outlets: &mut Outlets,
        plan: PagesPlan,
    ) -> Result<(), OutgoingError> {
        let mut lane_batches = Vec::new();
        for (lane, socket) in (0..plan.channels).zip(sockets) {
            let stream = outlets.open(StreamHeader::Lane { lane }, BATCH_BYTES_MAX);
            let batches = Arc::new(AtomicU64::new(0));
            lane_batches.push(Arc::clone(&batches));
            let lane_out = LaneOut {
                lane: usize::from(lane),
                socket,
                sharing: self.sharing(&stream),
                stream,
                shared: Arc::clone(&self.shared),
                batches,
                encoder: self.encoder()?,
                hasher: PageHasher::new(plan.hash_seed),
            };
            self.spawn(format!("lane-out-{lane}"), move || match lane_out.run() {
                Ok(()) | Err(LaneError::Over) => None,
                Err(error) => Some(reason(&error)),
            })?;
        }
        let page_lane = StreamHeader::Lane { lane: plan.channels };
        let main_out = MainOut {
            socket: main_socket,
            page_lane: outlets.open(page_lane, BATCH_BYTES_MAX),
            stream: outlets.open(StreamHeader::Main, MAIN_FRAME_BYTES_MAX),
            limits: plan.limits,
            shared: Arc::clone(&self.shared),
            lane_batches,
            encoder: self.encoder()?,
            hasher: PageHasher::new(plan.hash_seed),
        };
        self.spawn("main-out".to_owned(), move || match main_out.run() {
            Ok(()) | Err(MainError::Over) => None,
            Err(error) => Some(reason(&error)),
        })
    }

    /// The part of the lane of this stream in what machines share.
    fn sharing(&mut self, stream: &Outlet) -> Option<Sharing> {
        let catalogue = Arc::clone(self.catalogue.as_ref()?);
        let voucher = Voucher::new(stream.processed());
        self.vouchers.push(Arc::clone(&voucher));
        Some(Sharing::new(catalogue, voucher))
    }

    fn encoder(&self) -> Result<BatchEncoder, EncodeError> {
        BatchEncoder::new(self.shared.pace.first_compression())
    }

    /// A thread that ends with `Some(reason)` if it failed, which ends the others too.
    fn spawn(
        &mut self,
        name: String,
        run: impl FnOnce() -> Option<String> + Send + 'static,
    ) -> Result<(), OutgoingError> {
        let shared = Arc::clone(&self.shared);
        let body = move || {
            if let Some(reason) = run() {
                shared.meeting.end();
                shared.say(OutgoingEvent::Failed { reason });
            }
        };
        let thread = std::thread::Builder::new().name(name).spawn(body);
        self.threads.push(thread.map_err(OutgoingError::Resources)?);
        Ok(())
    }

    /// The live counters.
    pub fn counters(&self) -> Arc<MemoryCounters> {
        Arc::clone(&self.shared.counters)
    }

    /// Lets QEMU stop the guest when little is left to send.
    ///
    /// # Errors
    /// If QEMU closed the socket.
    pub fn allow_switchover(&self) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        ReturnMessage::SwitchoverAck.encode(&mut bytes);
        self.give_return_path(&bytes)
    }

    /// Gives bytes to QEMU's return path, which is the main socket's other direction. A few bytes at a time: the
    /// socket's buffer takes them at once.
    ///
    /// # Errors
    /// If QEMU closed the socket.
    pub fn give_return_path(&self, bytes: &[u8]) -> std::io::Result<()> {
        use std::io::Write;
        match self.sockets.first() {
            Some(mut main) => main.write_all(bytes),
            None => Ok(()),
        }
    }

    /// The target has processed more than before, of whichever stream.
    pub fn has_news(&self) {
        if let Some(catalogue) = &self.catalogue {
            catalogue.has_news();
        }
    }

    /// The target has proven that it processed everything: what it keeps of this machine is there for others.
    pub fn all_processed(&self) {
        self.vouchers.iter().for_each(|voucher| voucher.complete());
        self.has_news();
    }

    /// The guest's memory as the target has it, for when it moves again: to be asked once the target has accepted it,
    /// and once only. `None` if not all of it is remembered.
    pub fn take_image(&self, origin: ImageOrigin, hash_seed: u64) -> Option<Image> {
        let (table, shadow) = self.shared.sent_pages().ok()?.take();
        Some(Image { origin, hash_seed, table, shadow }).filter(Image::is_complete)
    }

    /// Closes the sockets, so that QEMU and the threads stop waiting: a QEMU that has not completed gives its
    /// migration up and runs the guest again.
    pub fn close(&self) {
        self.shared.meeting.end();
        sockets::shut_all(&self.sockets);
        self.vouchers.iter().for_each(|voucher| voucher.end());
        self.has_news();
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.close();
    }
}

/// Reads the files, on a thread that may block.
async fn index_files(form: OutgoingForm, files: Vec<BootFile>) -> Result<BootIndex, OutgoingError> {
    let OutgoingForm::Pages(plan) = form else { return Ok(BootIndex::default()) };
    let index = move || {
        let pages = BootPages::open(&files)?;
        BootIndex::new(pages, &PageHasher::new(plan.hash_seed))
    };
    let indexed = tokio::task::spawn_blocking(index).await;
    indexed
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(OutgoingError::BootFile)
}

/// A stream that begins with its header. Lanes have equal priority, below the control stream.
pub(crate) async fn open(
    connection: &Connection,
    header: StreamHeader,
    frame_bytes_max: usize,
) -> Result<FramedSend<SendStream>, OutgoingError> {
    let stream = connection.open_uni().await.map_err(OutgoingError::Open)?;
    let mut stream = FramedSend::new(stream, frame_bytes_max);
    let header = codec::encode(&header).unwrap_or_default();
    stream.send(header.into()).await.map_err(OutgoingError::Header)?;
    Ok(stream)
}
