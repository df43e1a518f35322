//! Lists of page indexes as runs of varints; the format is in [`super::batch`].

use super::batch::BatchError;

/// Appends the runs of `indexes`.
pub(super) fn encode(indexes: &[u32], output: &mut Vec<u8>) {
    let mut expected = 0_i64;
    for run in indexes.chunk_by(|one, next| one.checked_add(1) == Some(*next)) {
        let first = run.first().map_or(0, |index| i64::from(*index));
        put_varint(zigzag(first - expected), output);
        put_varint(run.len() as u64 - 1, output);
        expected = first + run.len() as i64;
    }
}

/// Fills `indexes` from the front of `bytes` and returns the rest of the bytes.
pub(super) fn decode<'a>(
    mut bytes: &'a [u8],
    mut indexes: &mut [u32],
) -> Result<&'a [u8], BatchError> {
    let mut expected = 0_i64;
    while !indexes.is_empty() {
        let distance = unzigzag(take_varint(&mut bytes)?);
        let length = take_varint(&mut bytes)?.saturating_add(1);
        let first = u32::try_from(expected + distance).map_err(|_| BatchError::IndexList)?;
        let length = usize::try_from(length).map_err(|_| BatchError::IndexList)?;
        let (run, rest) = indexes.split_at_mut_checked(length).ok_or(BatchError::IndexList)?;
        // `length` is at most the number of indexes wanted, so only `first` can make this fail.
        first.checked_add(length as u32 - 1).ok_or(BatchError::IndexList)?;
        for (index, value) in run.iter_mut().zip(first..=u32::MAX) {
            *index = value;
        }
        expected = i64::from(first) + length as i64;
        indexes = rest;
    }
    Ok(bytes)
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

fn put_varint(mut value: u64, output: &mut Vec<u8>) {
    while value >= 0x80 {
        output.push(value as u8 | 0x80);
        value >>= 7;
    }
    output.push(value as u8);
}

/// At most 5 bytes: distances have 33 bits, zigzag included.
fn take_varint(bytes: &mut &[u8]) -> Result<u64, BatchError> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(BatchError::IndexList)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let superfluous = *byte == 0 && shift > 0;
            return if superfluous { Err(BatchError::IndexList) } else { Ok(value) };
        }
    }
    Err(BatchError::IndexList)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(indexes: &[u32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(indexes, &mut bytes);
        bytes
    }

    #[test]
    fn neighbours_cost_one_run() {
        let indexes: Vec<u32> = (1000..1128).collect();
        assert_eq!(encoded(&indexes).len(), 3);
    }

    #[test]
    fn the_worst_case_fits() {
        let indexes: Vec<u32> =
            (0..128).map(|at| if at % 2 == 0 { at } else { u32::MAX - at }).collect();
        assert!(encoded(&indexes).len() <= crate::pages::batch::INDEX_LIST_BYTES_MAX);
    }

    #[test]
    fn refuses_what_the_encoder_does_not_write() {
        let mut two = [0; 2];
        for bad in [
            &[][..],                               // no run
            &[0x00],                               // no length
            &[0x01, 0x01],                         // index -1
            &[0x00, 0x02],                         // three indexes for two
            &[0x80, 0x00, 0x01],                   // superfluous byte
            &[0x80; 6],                            // no end
            &[0xfe, 0xff, 0xff, 0xff, 0x1f, 0x01], // u32::MAX and its successor
        ] {
            assert_eq!(decode(bad, &mut two), Err(BatchError::IndexList), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(indexes in prop::collection::vec(any::<u32>(), 0..128)) {
            let mut bytes = encoded(&indexes);
            bytes.extend_from_slice(b"rest");
            let mut decoded = vec![0; indexes.len()];
            prop_assert_eq!(decode(&bytes, &mut decoded), Ok(&b"rest"[..]));
            prop_assert_eq!(decoded, indexes);
        }

        #[test]
        fn any_bytes_are_handled(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut indexes = [0; 40];
            if decode(&bytes, &mut indexes).is_ok() {
                let mut again = Vec::new();
                encode(&indexes, &mut again);
                prop_assert!(again.len() <= bytes.len());
            }
        }
    }
}
