//! Numbers of few bytes: LEB128 without superfluous bytes, and zigzag for signed ones.

/// Bytes of a number at most.
pub const VARINT_BYTES_MAX: usize = 10;

/// A signed number so that small ones, of either sign, stay small.
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The signed number that [`zigzag`] made.
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Appends a number.
pub fn put(mut value: u64, output: &mut Vec<u8>) {
    while value >= 0x80 {
        output.push(value as u8 | 0x80);
        value >>= 7;
    }
    output.push(value as u8);
}

/// The number at the front of `bytes`, which are cut; `None` if there is none, or if it is not written in the shortest
/// way.
#[inline]
pub fn take(bytes: &mut &[u8]) -> Option<u64> {
    // Nearly all are so small.
    if let Some((byte, rest)) = bytes.split_first()
        && *byte < 0x80
    {
        *bytes = rest;
        return Some(u64::from(*byte));
    }
    take_long(bytes)
}

fn take_long(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for at in 0..VARINT_BYTES_MAX {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        let shift = 7 * at as u32;
        let placed = part << shift;
        if placed >> shift != part {
            return None;
        }
        value |= placed;
        if byte & 0x80 == 0 {
            let superfluous = *byte == 0 && at > 0;
            return (!superfluous).then_some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_take_few_bytes() {
        for shift in 0..64 {
            for value in [1_u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let mut bytes = Vec::new();
                put(value, &mut bytes);
                assert!(bytes.len() <= VARINT_BYTES_MAX);
                let mut rest = &bytes[..];
                assert_eq!(take(&mut rest), Some(value));
                assert!(rest.is_empty());
            }
        }
        for value in [0, 1, -1, i64::MAX, i64::MIN, 12345] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
    }

    #[test]
    fn what_is_cut_too_long_or_superfluous_is_none() {
        for bytes in [
            &[][..],
            &[0x80],
            &[0x80, 0x00],
            &[0xff; 11],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
        ] {
            assert_eq!(take(&mut &*bytes), None, "{bytes:x?}");
        }
    }
}
