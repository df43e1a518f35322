//! Data streams of the source: each goes to the part of the machine that it is about.

use novacron_protocol::session::message::StreamHeader;
use novacron_protocol::wire::codec;
use novacron_transport::{Connection, FramedRecv};
use quinn::RecvStream;

use super::Run;
use super::step::Step;
use crate::migrate::console_log;
use crate::migrate::files::FileReader;
use crate::migrate::relay::Inlet;
use crate::reason::reason;
use crate::vm::FileHash;

/// Bytes of a frame on any data stream: each kind has its own, lower limit behind this one.
const DATA_FRAME_BYTES_MAX: usize = 2 << 20;

/// Why a stream is refused.
const UNANNOUNCED: &str = "a stream came that was not announced";

/// Why a stream that came cannot begin.
pub(super) enum StreamFault {
    /// The connection is gone, of which the control stream tells.
    Cut,
    /// It is no stream of a migration.
    Nonsense(String),
}

impl Run {
    pub(super) fn stream(&mut self, stream: RecvStream) {
        let Some(connection) = self.dialogue.connection() else { return };
        let mut frames = connection.framed(stream, DATA_FRAME_BYTES_MAX);
        self.steps.spawn(async move {
            let header = async {
                let frame = frames.receive().await.map_err(|_| StreamFault::Cut)?;
                let frame = frame.ok_or(StreamFault::Cut)?;
                codec::decode(&frame).map_err(|error| StreamFault::Nonsense(reason(&error)))
            };
            let header = header.await;
            Step::Stream(header.map(|header| (header, frames)))
        });
    }

    pub(super) fn begin_stream(&mut self, header: StreamHeader, frames: FramedRecv<RecvStream>) {
        if header.follows_prepared() {
            self.dialogue.forget_marked();
        }
        let begun = match header {
            StreamHeader::File { hash } => self.begin_file(hash, frames),
            _ => self.begin_or_resume(header, frames),
        };
        if let Err(reason) = begun {
            self.fail(reason);
        }
    }

    /// A stream that may go on from an earlier connection.
    pub(super) fn begin_or_resume(
        &mut self,
        header: StreamHeader,
        frames: FramedRecv<RecvStream>,
    ) -> Result<(), String> {
        let added = self.inlets.add(header, frames).map_err(|error| reason(&error))?;
        let Some(inlet) = added else { return Ok(()) };
        match (header, &mut self.incoming, &mut self.disks) {
            (StreamHeader::Lane { lane }, Some(incoming), _) => {
                incoming.add_lane(lane, inlet).map_err(|error| reason(&error))
            }
            (StreamHeader::Main, Some(incoming), _) => {
                incoming.add_main(inlet).map_err(|error| reason(&error))
            }
            (StreamHeader::Disk { disk }, _, Some(disks)) => {
                disks.add_disk(disk, inlet).map_err(|error| reason(&error))?;
                self.finish_disks();
                Ok(())
            }
            (StreamHeader::ConsoleLog, ..) => self.begin_log(inlet),
            _ => Err(UNANNOUNCED.to_owned()),
        }
    }

    pub(super) fn begin_log(&mut self, frames: Inlet) -> Result<(), String> {
        let guest = self.guest.as_ref().ok_or("the machine is gone")?;
        let path = guest.directories().console_log();
        self.steps.spawn(async move {
            let received = console_log::receive(frames, path).await;
            Step::LogReceived(received.map_err(|error| reason(&error)))
        });
        Ok(())
    }

    pub(super) fn begin_file(
        &mut self,
        hash: [u8; 32],
        frames: FramedRecv<RecvStream>,
    ) -> Result<(), String> {
        let offered = self.offer.iter().flat_map(|offer| &offer.files);
        let offered = offered.into_iter().find(|file| file.hash == hash);
        let bytes = offered.ok_or("a file came that was not offered")?.bytes;
        if self.missing_files.iter().all(|file| file.hash != hash) {
            // It had arrived when the link was lost, which its source cannot know.
            return Ok(());
        }
        let store = self.context.machines.files().clone();
        let runtime = tokio::runtime::Handle::current();
        self.steps.spawn_blocking(move || {
            let mut reader = FileReader::new(frames, runtime, bytes);
            let received = store.receive_expected(&mut reader, FileHash(hash));
            Step::FileReceived(match received {
                Ok(()) => Ok(hash),
                Err(_) if reader.is_cut() => Err(StreamFault::Cut),
                Err(error) => Err(StreamFault::Nonsense(reason(&error))),
            })
        });
        Ok(())
    }
}

/// The next data stream. A connection that is gone gives none: the control stream says so.
pub(super) async fn next_stream(connection: Option<&Connection>) -> RecvStream {
    if let Some(connection) = connection
        && let Ok(stream) = connection.accept_uni().await
    {
        return stream;
    }
    std::future::pending().await
}
