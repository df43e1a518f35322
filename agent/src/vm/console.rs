//! A machine's serial console: what the guest wrote is read from the log that QEMU keeps, so any number of
//! people see the same bytes at the same offsets; what they type goes to the port itself.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeekExt, AsyncWrite, AsyncWriteExt, SeekFrom};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::Mutex;

/// How often a followed log is looked at: what a person notices as a delay.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(50);

const CHUNK_BYTES: usize = 32 * 1024;

/// The serial port of one machine. QEMU serves one client at a time, so all that type share one connection,
/// which exists while somebody holds it.
#[derive(Debug, Default)]
pub struct SerialPort {
    open: Mutex<Weak<OpenPort>>,
}

/// The shared connection.
#[derive(Debug)]
pub struct OpenPort {
    writer: Mutex<OwnedWriteHalf>,
}

impl SerialPort {
    /// The connection to the port at `socket`.
    ///
    /// # Errors
    /// What the system says; there is nobody to connect to while the machine does not run.
    pub async fn open(&self, socket: &Path) -> io::Result<Arc<OpenPort>> {
        let mut open = self.open.lock().await;
        if let Some(port) = open.upgrade() {
            return Ok(port);
        }
        let (mut reader, writer) = UnixStream::connect(socket).await?.into_split();
        // QEMU sends here what it also logs; unread, it would stop the guest's console.
        tokio::spawn(async move {
            let mut discarded = vec![0; CHUNK_BYTES];
            while matches!(reader.read(&mut discarded).await, Ok(1..)) {}
        });
        let port = Arc::new(OpenPort { writer: Mutex::new(writer) });
        *open = Arc::downgrade(&port);
        Ok(port)
    }
}

impl OpenPort {
    /// Types.
    ///
    /// # Errors
    /// What the system says.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.writer.lock().await.write_all(bytes).await
    }
}

/// What one attached person gets and gives.
#[derive(Debug)]
pub struct Attachment {
    /// The log.
    pub log: PathBuf,
    /// The port's socket.
    pub socket: PathBuf,
    /// The port.
    pub port: Arc<SerialPort>,
    /// Send the log from this byte on; beyond its end means from now on.
    pub from_offset: u64,
    /// Whether to go on after the log's present end.
    pub follow: bool,
}

impl Attachment {
    /// Serves the console until the log ends (without `follow`), the other side goes, or the machine is gone.
    ///
    /// # Errors
    /// What the system says, of the log or of the stream.
    pub async fn serve<W, R>(&self, output: &mut W, input: &mut R) -> io::Result<()>
    where
        W: AsyncWrite + Unpin,
        R: AsyncRead + Unpin,
    {
        if !self.follow {
            return self.send_log(output).await;
        }
        tokio::select! {
            biased;
            sent = self.send_log(output) => sent,
            typed = self.take_input(input) => typed,
        }
    }

    async fn send_log<W: AsyncWrite + Unpin>(&self, output: &mut W) -> io::Result<()> {
        let mut log = match File::open(&self.log).await {
            Ok(log) => log,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.follow => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => wait_for(&self.log).await?,
            Err(error) => return Err(error),
        };
        let end = log.metadata().await?.len();
        log.seek(SeekFrom::Start(self.from_offset.min(end))).await?;
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = log.read(&mut chunk).await?;
            if read > 0 {
                output.write_all(&chunk[..read]).await?;
                continue;
            }
            output.flush().await?;
            if !self.follow || is_removed(&log).await? {
                return Ok(());
            }
            tokio::time::sleep(FOLLOW_INTERVAL).await;
        }
    }

    /// Ends when the other side is gone; one that only finished its input goes on reading.
    async fn take_input<R: AsyncRead + Unpin>(&self, input: &mut R) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut held = None;
        loop {
            let read = input.read(&mut chunk).await?;
            if read == 0 {
                return std::future::pending().await;
            }
            let port = match held.take() {
                Some(port) => port,
                None => self.port.open(&self.socket).await?,
            };
            port.write(&chunk[..read]).await?;
            held = Some(port);
        }
    }
}

async fn wait_for(path: &Path) -> io::Result<File> {
    loop {
        match File::open(path).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let directory = path.parent().is_some_and(Path::is_dir);
                if !directory {
                    return Err(error);
                }
                tokio::time::sleep(FOLLOW_INTERVAL).await;
            }
            other => return other,
        }
    }
}

async fn is_removed(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(file.metadata().await?.nlink() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    fn attachment(directory: &Path, from_offset: u64, follow: bool) -> Attachment {
        Attachment {
            log: directory.join("console.log"),
            socket: directory.join("s.sock"),
            port: Arc::default(),
            from_offset,
            follow,
        }
    }

    #[tokio::test]
    async fn the_log_is_sent_from_an_offset() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("console.log"), "hello world").unwrap();
        for (offset, expected) in [(0, "hello world"), (6, "world"), (99, "")] {
            let mut sent = Vec::new();
            let attachment = attachment(directory.path(), offset, false);
            attachment.serve(&mut sent, &mut tokio::io::empty()).await.unwrap();
            assert_eq!(sent, expected.as_bytes());
        }
    }

    #[tokio::test]
    async fn a_followed_log_goes_on_and_typing_reaches_the_port() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("console.log");
        std::fs::write(&log, "one ").unwrap();
        let listener = UnixListener::bind(directory.path().join("s.sock")).unwrap();
        let attachment = attachment(directory.path(), 0, true);
        let (client, mut served) = tokio::io::duplex(64);
        let (mut input, mut output) = tokio::io::split(client);
        let serving = tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(&mut served);
            attachment.serve(&mut writer, &mut reader).await
        });
        let mut seen = [0; 4];
        input.read_exact(&mut seen).await.unwrap();
        output.write_all(b"typed").await.unwrap();
        let (mut port, _) = listener.accept().await.unwrap();
        let mut typed = [0; 5];
        port.read_exact(&mut typed).await.unwrap();
        assert_eq!(&typed, b"typed");
        std::fs::write(&log, "one two ").unwrap();
        input.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"two ");
        std::fs::remove_file(&log).unwrap();
        serving.await.unwrap().unwrap();
    }
}
