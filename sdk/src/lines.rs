//! Lines of JSON of a stream.

use std::io::{BufRead, Read};

use serde::de::DeserializeOwned;

use crate::error::Error;

/// The next line without its end; none if the stream ended, in the middle of a line too, or if the line is too long.
pub(crate) fn read_line(
    lines: &mut impl BufRead,
    bytes_max: u64,
) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    lines.take(bytes_max).read_until(b'\n', &mut line)?;
    Ok((line.pop() == Some(b'\n')).then_some(line))
}

/// What a line says, or the problem with which a coordinator ends a stream that it cannot go on with.
pub(crate) fn parse<T: DeserializeOwned>(line: &[u8], stream: &str) -> Result<T, Error> {
    serde_json::from_slice(line).map_err(|error| match serde_json::from_slice(line) {
        Ok(problem) => Error::Problem(problem),
        Err(_) => Error::Answer { endpoint: stream.into(), detail: error.to_string() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_line_is_no_line() {
        let mut stream: &[u8] = b"{}\n\n{\"half\":";
        assert_eq!(read_line(&mut stream, 100).unwrap(), Some(b"{}".to_vec()));
        assert_eq!(read_line(&mut stream, 100).unwrap(), Some(Vec::new()));
        assert_eq!(read_line(&mut stream, 100).unwrap(), None);
        let mut long: &[u8] = b"{}   \n";
        assert_eq!(read_line(&mut long, 4).unwrap(), None);
    }
}
