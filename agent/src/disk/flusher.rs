//! Makes a disk durable while it arrives: what is not durable yet when the guest is stopped, the guest waits for.

use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::nbd::{ClientError, NbdClient};

/// Bytes written before they are made durable. Fewer would make writing wait for the disk, since it waits for what QEMU
/// notes while it flushes.
const BYTES_MAX: usize = 64 << 20;

/// A second connection to the export of a disk, on a thread that does nothing but flush: QEMU writes meanwhile.
#[derive(Debug)]
pub(super) struct Flusher {
    trigger: FlushTrigger,
    thread: JoinHandle<Result<(), ClientError>>,
    bytes: usize,
}

/// Orders flushes.
#[derive(Debug, Clone)]
pub(super) struct FlushTrigger(SyncSender<Order>);

#[derive(Debug)]
enum Order {
    Flush,
    End,
}

impl FlushTrigger {
    /// Never waits. Whether the order is taken; it is not if one waits to be carried out, which does the same.
    pub(super) fn flush(&self) -> bool {
        self.0.try_send(Order::Flush).is_ok()
    }
}

impl Flusher {
    /// Starts the thread, which ends with this and all triggers.
    ///
    /// # Errors
    /// If the system gives none.
    pub(super) fn start(client: NbdClient<UnixStream>, disk: usize) -> std::io::Result<Self> {
        // One waits while another is carried out.
        let (orders, received) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name(format!("disk-flush-{disk}"))
            .spawn(move || run(client, &received))?;
        Ok(Self { trigger: FlushTrigger(orders), thread, bytes: 0 })
    }

    /// Orders flushes from elsewhere.
    pub(super) fn trigger(&self) -> FlushTrigger {
        self.trigger.clone()
    }

    /// So many bytes more were written. Never waits.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.bytes += bytes;
        if self.bytes >= BYTES_MAX && self.trigger.flush() {
            self.bytes = 0;
        }
    }

    /// Waits until what was ordered is carried out; what was written behind it is left to whoever calls.
    ///
    /// # Errors
    /// What was written could not be made durable.
    pub(super) fn finish(self) -> Result<(), ClientError> {
        // It fails if the thread has ended, which is because a flush has failed.
        let _ = self.trigger.0.send(Order::End);
        let died = |_| Err(std::io::Error::other("its thread died").into());
        self.thread.join().unwrap_or_else(died)
    }
}

fn run(mut client: NbdClient<UnixStream>, orders: &Receiver<Order>) -> Result<(), ClientError> {
    while let Ok(Order::Flush) = orders.recv() {
        client.flush()?;
    }
    client.disconnect()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc::{Sender, channel};
    use std::time::Duration;

    use super::super::nbd::{End, Export, ServeError, Sink, serve};
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// A disk that tells when it is flushed, or fails to.
    struct Disk {
        flushed: Option<Sender<()>>,
    }

    impl Sink for Disk {
        type Error = io::Error;

        fn write(&mut self, _offset: u64, _data: &[u8]) -> io::Result<()> {
            Ok(())
        }

        fn zero(&mut self, _offset: u64, _bytes: u64) -> io::Result<()> {
            Ok(())
        }

        fn flush(&mut self) -> io::Result<()> {
            let flushed = self.flushed.as_ref();
            flushed.ok_or(io::ErrorKind::StorageFull)?.send(()).map_err(io::Error::other)
        }
    }

    type Served = JoinHandle<Result<End, ServeError<io::Error>>>;

    fn flusher_of(mut disk: Disk) -> (Flusher, Served) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let export = Export { name: "disk".to_owned(), size_bytes: 1 << 30 };
        let served = std::thread::spawn(move || serve(theirs, &export, &mut disk));
        let client = NbdClient::new(ours, "disk").unwrap();
        (Flusher::start(client, 0).unwrap(), served)
    }

    #[test]
    fn what_is_written_is_flushed_long_before_the_end() {
        let (flushed, flushes) = channel();
        let (mut flusher, served) = flusher_of(Disk { flushed: Some(flushed) });
        flusher.wrote(BYTES_MAX - 1);
        flusher.wrote(1);
        flushes.recv_timeout(PATIENCE).unwrap();
        flusher.wrote(1);
        flusher.trigger().flush();
        flushes.recv_timeout(PATIENCE).unwrap();
        flusher.finish().unwrap();
        assert_eq!(served.join().unwrap().unwrap(), End::Disconnected);
        assert!(flushes.recv().is_err(), "it was flushed when nothing called for it");
    }

    #[test]
    fn a_flush_that_fails_is_told_at_the_end() {
        let (mut flusher, served) = flusher_of(Disk { flushed: None });
        flusher.wrote(BYTES_MAX);
        assert!(served.join().unwrap().is_err());
        assert!(flusher.finish().is_err());
    }
}
