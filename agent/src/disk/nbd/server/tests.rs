use std::convert::Infallible;
use std::os::unix::net::UnixStream;

use proptest::prelude::*;

use super::super::NbdClient;
use super::super::wire::{OPTION_MAGIC, encode_option, option, option_reply};
use super::*;

const BLOCK: u64 = EXPORT_BLOCK_BYTES as u64;
const SIZE_BYTES: u64 = 40 << 20;

fn export() -> Export {
    Export { name: "disk0".to_owned(), size_bytes: SIZE_BYTES }
}

/// A disk in memory.
struct Disk(Vec<u8>);

impl Disk {
    fn new() -> Self {
        Self(vec![0xee; SIZE_BYTES as usize])
    }
}

impl Sink for Disk {
    type Error = Infallible;

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), Infallible> {
        assert!(data.len() <= CHUNK_BYTES);
        self.0[offset as usize..][..data.len()].copy_from_slice(data);
        Ok(())
    }

    fn zero(&mut self, offset: u64, bytes: u64) -> Result<(), Infallible> {
        self.0[offset as usize..][..bytes as usize].fill(0);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Serves a disk while `client` does its work at the other end.
fn served<R>(
    client: impl FnOnce(UnixStream) -> R,
) -> (R, Result<End, ServeError<Infallible>>, Disk) {
    let (near, far) = UnixStream::pair().unwrap();
    let server = std::thread::spawn(move || {
        let mut disk = Disk::new();
        let end = serve(far, &export(), &mut disk);
        (end, disk)
    });
    let result = client(near);
    let (end, disk) = server.join().unwrap();
    (result, end, disk)
}

#[test]
fn a_client_writes_and_leaves() {
    let long: Vec<u8> = (0..5 << 20).map(|at: u32| (at / 999) as u8).collect();
    let ((), end, disk) = served(|stream| {
        let mut client = NbdClient::new(stream, "disk0").unwrap();
        assert_eq!(client.size_bytes(), SIZE_BYTES);
        client.write(3 * BLOCK, &long).unwrap();
        client.write_zeroes(0, 2 * EXPORT_BLOCK_BYTES).unwrap();
        client.flush().unwrap();
        client.disconnect().unwrap();
    });
    assert_eq!(end.unwrap(), End::Disconnected);
    let block = BLOCK as usize;
    assert!(disk.0[..2 * block].iter().all(|byte| *byte == 0));
    assert!(disk.0[2 * block..3 * block].iter().all(|byte| *byte == 0xee));
    assert!(disk.0[3 * block..][..long.len()] == long);
}

#[test]
fn what_is_not_whole_blocks_of_the_export_is_refused_and_the_connection_lives() {
    fn refused(result: Result<(), super::super::ClientError>) -> Option<i32> {
        match result {
            Err(super::super::ClientError::Failed { source, .. }) => source.raw_os_error(),
            other => panic!("{other:?}"),
        }
    }
    let ((), end, disk) = served(|stream| {
        let mut client = NbdClient::new(stream, "disk0").unwrap();
        let block = vec![1; BLOCK as usize];
        assert_eq!(refused(client.write(SIZE_BYTES, &block)), Some(28));
        assert_eq!(refused(client.write(u64::MAX - 5, &block)), Some(28));
        assert_eq!(refused(client.write(512, &block)), Some(22));
        assert_eq!(refused(client.write(0, &block[..512])), Some(22));
        assert_eq!(refused(client.write_zeroes(0, 512)), Some(22));
        assert_eq!(refused(client.write_zeroes(0, 0)), Some(22));
        assert_eq!(refused(client.read(0, &mut [0; 16])), Some(95));
        client.flush().unwrap();
    });
    assert_eq!(end.unwrap(), End::Closed);
    assert!(disk.0.iter().all(|byte| *byte == 0xee));
}

#[test]
fn an_unknown_export_is_refused() {
    let (result, end, _) = served(|stream| NbdClient::new(stream, "disk1").map(drop));
    assert!(matches!(result, Err(super::super::ClientError::Refused(_))));
    assert!(matches!(end, Err(ServeError::Handshake(_))));
}

/// What the server says to these options, greeting left out.
fn answers(options: &[u8]) -> Vec<u8> {
    let mut sent = 3_u32.to_be_bytes().to_vec();
    sent.extend_from_slice(options);
    let (said, _, _) = served(|mut stream| {
        stream.write_all(&sent).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).unwrap();
        said
    });
    said[18..].to_vec()
}

#[test]
fn options_that_are_not_known_are_refused_and_old_ones_answered() {
    /// STARTTLS, STRUCTURED_REPLY, SET_META_CONTEXT and EXTENDED_HEADERS.
    const MODERN: [u32; 4] = [5, 8, 10, 11];
    for option in MODERN {
        let refusal = encode_option_reply_of(option, option_reply::ERROR_UNSUPPORTED);
        assert_eq!(answers(&encode_option(option, b"any")), refusal);
    }
    let list = answers(&encode_option(option::LIST, b""));
    assert!(list.windows(5).any(|window| window == b"disk0"));
    let facts = answers(&encode_option(option::EXPORT_NAME, b"disk0"));
    assert_eq!(facts, [&SIZE_BYTES.to_be_bytes()[..], &[0, 0b110_1101]].concat());
    let aborted = answers(&encode_option(option::ABORT, b""));
    assert_eq!(aborted, encode_option_reply_of(option::ABORT, option_reply::ACK));
}

fn encode_option_reply_of(option: u32, kind: u32) -> Vec<u8> {
    super::super::wire::encode_option_reply(option, kind, b"")
}

#[test]
fn an_option_of_any_length_costs_nothing() {
    let mut option = OPTION_MAGIC.to_be_bytes().to_vec();
    option.extend_from_slice(&option::GO.to_be_bytes());
    option.extend_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(answers(&option), b"");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]
    #[test]
    fn hostile_requests_harm_nobody(
        requests in prop::collection::vec(any::<(u16, u16, u64, u32)>(), 0..10),
        noise in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let ((), _, _) = served(|mut stream| {
            let client = NbdClient::new(stream.try_clone().unwrap(), "disk0").unwrap();
            for (flags, command, offset, length) in &requests {
                let mut bytes = Request {
                    flags: *flags,
                    command: Command::Flush,
                    cookie: 1,
                    offset: *offset,
                    length: *length,
                }
                .encode();
                bytes[6..8].copy_from_slice(&(command % 9).to_be_bytes());
                // The server may have left already.
                let _ = stream.write_all(&bytes);
            }
            let _ = stream.write_all(&noise);
            drop(client);
            let _ = stream.shutdown(std::net::Shutdown::Write);
        });
    }
}
