//! The few messages of etcd that are needed, in the wire format of protocol buffers, framed as gRPC does.
//!
//! Formats: <https://protobuf.dev/programming-guides/encoding/>, etcd 3.4 `etcdserver/etcdserverpb/rpc.proto`, and the
//! length-prefixed message of gRPC over HTTP/2.

use anyhow::{Context, Result, bail, ensure};
use bytes::{BufMut, Bytes, BytesMut};

/// Compressed or not, and four bytes of length.
const PREFIX_BYTES: usize = 5;

const VARINT: u64 = 0;
const LENGTH_DELIMITED: u64 = 2;

/// A field of a message: its number and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    /// An integer or a boolean.
    Number(u64, u64),
    /// Bytes, a text or a message.
    Bytes(u64, &'a [u8]),
}

/// A gRPC message of these fields.
pub fn message(fields: &[Field<'_>]) -> Bytes {
    let mut body = BytesMut::new();
    for field in fields {
        put_field(&mut body, field);
    }
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + body.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    framed.put(body);
    framed.freeze()
}

/// The one message in an answer's body.
pub fn unframed(body: &[u8]) -> Result<&[u8]> {
    let (prefix, message) = body.split_at_checked(PREFIX_BYTES).context("no message of gRPC")?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    ensure!(prefix[0] == 0 && length == message.len(), "not one plain message of gRPC");
    Ok(message)
}

/// The fields of a message, in order.
pub fn fields(mut message: &[u8]) -> Result<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let tag = take_varint(&mut message)?;
        fields.push(match tag & 7 {
            VARINT => Field::Number(tag >> 3, take_varint(&mut message)?),
            LENGTH_DELIMITED => {
                let length = usize::try_from(take_varint(&mut message)?)?;
                let (bytes, rest) = message.split_at_checked(length).context("a short field")?;
                message = rest;
                Field::Bytes(tag >> 3, bytes)
            }
            other => bail!("a field of the unexpected type {other}"),
        });
    }
    Ok(fields)
}

/// An integer field, 0 if it is absent, as the format has it.
pub fn number(fields: &[Field<'_>], wanted: u64) -> u64 {
    let value = |field: &Field<'_>| match *field {
        Field::Number(number, value) if number == wanted => Some(value),
        _ => None,
    };
    fields.iter().find_map(value).unwrap_or(0)
}

/// A field of bytes.
pub fn bytes<'a>(fields: &[Field<'a>], wanted: u64) -> Option<&'a [u8]> {
    fields.iter().find_map(|field| match *field {
        Field::Bytes(number, bytes) if number == wanted => Some(bytes),
        _ => None,
    })
}

fn put_field(body: &mut BytesMut, field: &Field<'_>) {
    match *field {
        Field::Number(number, value) => {
            put_varint(body, number << 3 | VARINT);
            put_varint(body, value);
        }
        Field::Bytes(number, bytes) => {
            put_varint(body, number << 3 | LENGTH_DELIMITED);
            put_varint(body, bytes.len() as u64);
            body.put_slice(bytes);
        }
    }
}

fn put_varint(body: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        body.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    body.put_u8(value as u8);
}

fn take_varint(message: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first().context("a short number")?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    bail!("a number of more than 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let written = [Field::Bytes(1, b"key"), Field::Number(7, 300), Field::Number(9, u64::MAX)];
        let message = message(&written);
        let read = fields(unframed(&message).unwrap()).unwrap();
        assert_eq!(read, written);
        assert_eq!((number(&read, 7), number(&read, 8)), (300, 0));
        assert_eq!((bytes(&read, 1), bytes(&read, 2)), (Some(&b"key"[..]), None));
    }

    #[test]
    fn the_example_of_the_format_is_encoded_alike() {
        assert_eq!(message(&[Field::Number(1, 150)])[..], [0, 0, 0, 0, 3, 0x08, 0x96, 0x01]);
    }

    #[test]
    fn what_is_cut_is_refused() {
        assert!(unframed(&[0, 0, 0, 0, 9, 1]).is_err());
        assert!(fields(&[0x0a, 5, 1]).is_err());
        assert!(fields(&[0x08]).is_err());
        assert!(fields(&[0x0d, 0, 0, 0, 0]).is_err());
        assert!(fields(&[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]).is_err());
    }
}
