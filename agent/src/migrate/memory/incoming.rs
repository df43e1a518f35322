//! Memory that arrives: the threads of a target and what they share.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use novacron_protocol::pages::{PageHasher, PageTable};
use novacron_protocol::session::message::MemoryDigest;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};

use super::boot_pages::{BootFile, BootPages};
use super::feeder;
use super::held_pages::{ApplyError, HeldPages, TouchedPages};
use super::lane_in::LaneIn;
use crate::migrate::cache::{Image, ImageOrigin, Images};
use crate::migrate::digest::memory_digest;
use crate::migrate::library::Shelf;
use crate::migrate::relay::Inlet;
use crate::reason::reason;
use crate::sys::{GuestMemory, GuestMemoryError};

/// In what form memory arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IncomingForm {
    /// Page by page.
    Pages {
        /// Lanes.
        lanes: u8,
        /// Seed of the content hashes.
        hash_seed: u64,
    },
    /// As bytes that are not understood.
    Tunnel,
}

impl IncomingForm {
    fn lanes(self) -> u8 {
        match self {
            Self::Pages { lanes, .. } => lanes,
            Self::Tunnel => 0,
        }
    }

    fn hash_seed(self) -> u64 {
        match self {
            Self::Pages { hash_seed, .. } => hash_seed,
            Self::Tunnel => 0,
        }
    }
}

/// How memory arrives.
#[derive(Debug)]
pub struct IncomingPlan {
    /// In what form.
    pub form: IncomingForm,
    /// Unix socket at which QEMU waits for its stream.
    pub qemu_socket: PathBuf,
    /// Files that both ends have and the guest was booted from.
    pub boot_files: Vec<BootFile>,
    /// What the source knows of the guest's memory here.
    pub beginning: Beginning,
    /// Where room for what arrives is taken from.
    pub images: Images,
    /// Where pages are kept for further machines.
    pub shelf: Option<Arc<Shelf>>,
}

/// What is in the guest's memory before anything arrives, as the source knows.
#[derive(Debug)]
pub enum Beginning {
    /// Zeros.
    Zeros,
    /// Zeros; this is put there later.
    Image(Image),
    /// This is there.
    Found(PageTable),
}

/// What the threads have to say.
#[derive(Debug)]
pub enum IncomingEvent {
    /// QEMU says this to the source's QEMU.
    ReturnPath(Vec<u8>),
    /// QEMU has loaded everything.
    Loaded,
    /// A lane, a stream or QEMU failed.
    Failed {
        /// For a person.
        reason: String,
    },
}

/// What the threads share.
#[derive(Debug)]
pub(super) struct IncomingShared {
    pub memory: Arc<GuestMemory>,
    pub hash_seed: u64,
    pub boot: BootPages,
    pub shelf: Option<Arc<Shelf>>,
    held: Mutex<HeldPages>,
    /// A page was applied that somebody may wait for, or all can be, or nothing more will be.
    page_applied: Condvar,
    /// Whether QEMU can be fed.
    is_ready: watch::Sender<bool>,
    /// Batches applied, by lane.
    applied: watch::Sender<Vec<u64>>,
    events: mpsc::Sender<IncomingEvent>,
}

impl IncomingShared {
    pub(super) fn held_pages(&self) -> MutexGuard<'_, HeldPages> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until pages were applied, or [`Self::end`]. Others have the pages meanwhile.
    pub(super) fn wait_for_pages<'a>(
        &self,
        held: MutexGuard<'a, HeldPages>,
    ) -> MutexGuard<'a, HeldPages> {
        self.page_applied.wait(held).unwrap_or_else(PoisonError::into_inner)
    }

    /// No page will be applied any more: nobody shall wait for one.
    pub(super) fn end(&self) {
        self.held_pages().end();
        self.page_applied.notify_all();
    }

    pub(super) fn batch_applied(&self, lane: usize) {
        self.page_applied.notify_all();
        self.applied.send_modify(|applied| {
            if let Some(count) = applied.get_mut(lane) {
                *count += 1;
            }
        });
    }

    /// Returns once so many batches of each lane are applied. Cancel-safe.
    pub(super) async fn wait_applied(&self, lane_batches: &[u64]) {
        let reached = |applied: &Vec<u64>| {
            lane_batches.len() <= applied.len()
                && lane_batches.iter().zip(applied).all(|(wanted, count)| count >= wanted)
        };
        // The sender lives in `self`.
        let _ = self.applied.subscribe().wait_for(reached).await;
    }

    /// Returns once QEMU can be fed. Cancel-safe.
    pub(super) async fn wait_ready(&self) {
        // The sender lives in `self`.
        let _ = self.is_ready.subscribe().wait_for(|is_ready| *is_ready).await;
    }

    /// Waits until what is known of guest memory is there.
    pub(super) fn wait_begun(&self) -> MutexGuard<'_, HeldPages> {
        let held = self.held_pages();
        let waits = |held: &mut HeldPages| !held.is_begun();
        self.page_applied.wait_while(held, waits).unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes all of guest memory what it is known to be. Pages arrive meanwhile: nobody waits while it is read.
    fn sweep(&self) -> Result<(), ApplyError> {
        let hasher = PageHasher::new(self.hash_seed);
        let pages = u32::try_from(self.wait_begun().table().pages()).unwrap_or(u32::MAX);
        let mut touched = TouchedPages::default();
        for first in (0..pages).step_by(SWEEP_PAGES as usize) {
            let piece = first..first.saturating_add(SWEEP_PAGES).min(pages);
            let look = |page_index| touched.look(&self.memory, page_index, &hasher);
            let found = piece.clone().map(look).collect::<Result<Vec<_>, _>>()?;
            self.held_pages().sweep(&self.memory, piece.zip(found), &hasher)?;
        }
        Ok(())
    }

    pub(super) async fn say(&self, event: IncomingEvent) {
        let _ = self.events.send(event).await;
    }
}

/// Pages that are compared at once, when they were read: what is found differs the more often, the later that is.
const SWEEP_PAGES: u32 = 512;

/// Takes room for what is known of guest memory, on a thread that may block: older images may have to go.
fn begin_pages(
    shared: &Arc<IncomingShared>,
    beginning: Beginning,
    images: Images,
) -> Result<JoinHandle<()>, IncomingError> {
    let pages = shared.memory.pages();
    let pages = u32::try_from(pages).map_err(|_| IncomingError::TooManyPages(pages))?;
    let shared = Arc::clone(shared);
    Ok(tokio::task::spawn_blocking(move || {
        *shared.held_pages() = HeldPages::begin(pages, beginning, &images);
        shared.page_applied.notify_all();
    }))
}

/// Events that may wait for the owner; the return path has a handful in a migration.
const EVENTS_MAX: usize = 64;

/// Memory on its way in.
#[derive(Debug)]
pub struct Incoming {
    shared: Arc<IncomingShared>,
    form: IncomingForm,
    qemu_socket: PathBuf,
    lanes_begun: Vec<bool>,
    main_begun: bool,
    /// Takes room for what memory begins with.
    beginning: Option<JoinHandle<()>>,
    feeder: Option<AbortHandle>,
}

/// Why an arriving stream is refused.
#[derive(Debug, thiserror::Error)]
pub enum IncomingError {
    /// The lane was not announced, or came twice.
    #[error("lane {lane} was not announced or came twice")]
    Lane {
        /// Its number.
        lane: u8,
    },
    /// The main stream came twice.
    #[error("the main stream came twice")]
    MainTwice,
    /// The host gives no thread.
    #[error("the host gives no thread for the migration")]
    Resources(#[source] std::io::Error),
    /// The guest has more pages than a table can hold.
    #[error("the guest has {0} pages of memory; at most 2^32 can be moved")]
    TooManyPages(u64),
    /// Guest memory cannot be cleared.
    #[error("guest memory cannot be prepared")]
    Memory(#[from] GuestMemoryError),
    /// A file that the guest was booted from cannot be read.
    #[error("a file that the guest was booted from cannot be read")]
    BootFile(#[source] std::io::Error),
    /// It was ended.
    #[error("the migration is over")]
    Over,
}

impl Incoming {
    /// Ready for streams; pages are applied as they come, also while the guest's QEMU is still being started. Guest
    /// memory must be as the plan says, or all zero where it begins with an image, which [`Self::feed`] puts there.
    ///
    /// # Errors
    /// [`IncomingError`].
    pub fn begin(
        plan: IncomingPlan,
        memory: Arc<GuestMemory>,
    ) -> Result<(Self, mpsc::Receiver<IncomingEvent>), IncomingError> {
        let IncomingPlan { form, qemu_socket, boot_files, beginning, images, shelf } = plan;
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let shared = Arc::new(IncomingShared {
            memory,
            hash_seed: form.hash_seed(),
            boot: BootPages::open(&boot_files).map_err(IncomingError::BootFile)?,
            shelf,
            held: Mutex::new(match form {
                IncomingForm::Pages { .. } => HeldPages::nothing(),
                IncomingForm::Tunnel => HeldPages::unseen(),
            }),
            page_applied: Condvar::new(),
            is_ready: watch::Sender::new(false),
            applied: watch::Sender::new(vec![0; usize::from(form.lanes())]),
            events,
        });
        let beginning = match form {
            IncomingForm::Pages { .. } => Some(begin_pages(&shared, beginning, images)?),
            IncomingForm::Tunnel => None,
        };
        let incoming = Self {
            shared,
            form,
            qemu_socket,
            lanes_begun: vec![false; usize::from(form.lanes())],
            main_begun: false,
            beginning,
            feeder: None,
        };
        Ok((incoming, receiver))
    }

    /// Once this returns, nothing here writes to the guest's memory any more.
    pub async fn end(mut self) {
        self.shared.end();
        if let Some(beginning) = self.beginning.take() {
            // A panic in it has been reported, and has ended it too.
            let _ = beginning.await;
        }
        // What it put there does not know that it is over.
        self.shared.end();
    }

    /// The guest's QEMU waits for its stream. Before it gets any, memory is made what it is known to be: an image is put
    /// there as far as nothing else has arrived, and what QEMU has written while it started is put right.
    pub fn feed(&self) {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || {
            let swept = shared.sweep();
            match swept {
                Ok(()) => drop(shared.is_ready.send_replace(true)),
                Err(error) => {
                    let _ = shared
                        .events
                        .blocking_send(IncomingEvent::Failed { reason: reason(&error) });
                }
            }
        });
    }

    /// A lane arrived.
    ///
    /// # Errors
    /// [`IncomingError`] if it was not announced or came before.
    pub fn add_lane(&mut self, lane: u8, stream: Inlet) -> Result<(), IncomingError> {
        let refusal = IncomingError::Lane { lane };
        match self.lanes_begun.get_mut(usize::from(lane)) {
            Some(begun) if !*begun => *begun = true,
            _ => return Err(refusal),
        }
        let shared = Arc::clone(&self.shared);
        let runtime = Handle::current();
        let lane_in =
            LaneIn { lane: usize::from(lane), stream, runtime, shared: Arc::clone(&shared) };
        let body = move || {
            if let Err(error) = lane_in.run() {
                // Others may wait for a page that was to come by this lane.
                shared.end();
                let event = IncomingEvent::Failed { reason: reason(&error) };
                let _ = shared.events.blocking_send(event);
            }
        };
        let name = format!("lane-in-{lane}");
        let thread = std::thread::Builder::new().name(name).spawn(body);
        // It ends with its stream, and holds nothing but the memory that it writes.
        thread.map(drop).map_err(IncomingError::Resources)
    }

    /// The main stream arrived: QEMU is connected and fed from here on.
    ///
    /// # Errors
    /// [`IncomingError::MainTwice`].
    pub fn add_main(&mut self, stream: Inlet) -> Result<(), IncomingError> {
        if std::mem::replace(&mut self.main_begun, true) {
            return Err(IncomingError::MainTwice);
        }
        let shared = Arc::clone(&self.shared);
        let path = self.qemu_socket.clone();
        let form = self.form;
        let feeding = tokio::spawn(async move {
            if let Err(error) = feeder::run(stream, &path, form, &shared).await {
                shared.say(IncomingEvent::Failed { reason: reason(&error) }).await;
            }
        });
        self.feeder = Some(feeding.abort_handle());
        Ok(())
    }

    /// Digest of what has been applied; `None` for a tunnel, which verifies itself.
    pub fn digest(&self) -> Option<MemoryDigest> {
        let by_page = self.form != IncomingForm::Tunnel;
        by_page.then(|| memory_digest(super::SHARED_BLOCK, self.shared.held_pages().table()))
    }

    /// The guest's memory as it arrived, for when it moves again: to be asked once it was accepted, and once only.
    /// `None` if not all of it is remembered.
    pub fn take_image(&self, origin: ImageOrigin) -> Option<Image> {
        let (table, shadow) = self.shared.held_pages().take();
        let hash_seed = self.shared.hash_seed;
        Some(Image { origin, hash_seed, table, shadow }).filter(Image::is_complete)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.shared.end();
        if let Some(feeder) = &self.feeder {
            feeder.abort();
        }
    }
}
