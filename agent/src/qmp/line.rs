//! Lines of a QMP socket: bounded, and floods dropped before anything is parsed.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Bytes of one line from QEMU. The longest real one is a `query-*` answer of some hundred KiB.
pub(super) const LINE_BYTES_MAX: usize = 8 << 20;

/// Reads up to and including the next newline into `line`, which is emptied first. False at the end.
///
/// Not cancel-safe: the owner must read to the end of the line.
pub(super) async fn read_line<R: AsyncBufRead + Unpin>(
    reader: &mut R,
    line: &mut Vec<u8>,
) -> io::Result<bool> {
    line.clear();
    loop {
        let available = reader.fill_buf().await?;
        if available.is_empty() {
            return Ok(false);
        }
        let (taken, ended) = match available.iter().position(|&byte| byte == b'\n') {
            Some(newline) => (newline + 1, true),
            None => (available.len(), false),
        };
        if line.len() + taken > LINE_BYTES_MAX {
            return Err(io::Error::other(format!("a line of more than {LINE_BYTES_MAX} bytes")));
        }
        line.extend_from_slice(&available[..taken]);
        reader.consume(taken);
        if ended {
            return Ok(true);
        }
    }
}

/// Whether the line is an event of which an idle guest under a held switchover makes 25,000 a second and
/// which nobody wants. QEMU writes the timestamp and the event's name first.
pub(super) fn is_flood(line: &[u8]) -> bool {
    const NAME: &[u8] = b"\"event\": \"MIGRATION_PASS\"";
    const HEAD_BYTES: usize = 160;
    let head = &line[..line.len().min(HEAD_BYTES)];
    head.windows(NAME.len()).any(|window| window == NAME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::BufReader;

    #[tokio::test]
    async fn lines_come_whole_however_they_are_cut() {
        let mut reader = BufReader::with_capacity(3, &b"{\"a\": 1}\r\nlast\n"[..]);
        let mut line = Vec::new();
        assert!(read_line(&mut reader, &mut line).await.unwrap());
        assert_eq!(line, b"{\"a\": 1}\r\n");
        assert!(read_line(&mut reader, &mut line).await.unwrap());
        assert_eq!(line, b"last\n");
        assert!(!read_line(&mut reader, &mut line).await.unwrap());
    }

    #[tokio::test]
    async fn an_endless_line_is_refused() {
        let endless = vec![b'x'; LINE_BYTES_MAX + 1];
        let mut reader = BufReader::new(&endless[..]);
        assert!(read_line(&mut reader, &mut Vec::new()).await.is_err());
    }

    #[test]
    fn only_the_flood_is_dropped() {
        let pass = br#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "MIGRATION_PASS", "data": {"pass": 3}}"#;
        assert!(is_flood(pass));
        let stop = br#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}"#;
        assert!(!is_flood(stop));
    }
}
