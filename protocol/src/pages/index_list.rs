//! Lists of page indexes as runs of varints; the format is in [`super::batch`].

use super::batch::BatchError;
use super::varint;

/// Appends the runs of `indexes`.
pub(super) fn encode(indexes: &[u32], output: &mut Vec<u8>) {
    let mut expected = 0_i64;
    for run in indexes.chunk_by(|one, next| one.checked_add(1) == Some(*next)) {
        let first = run.first().map_or(0, |index| i64::from(*index));
        varint::put(varint::zigzag(first - expected), output);
        varint::put(run.len() as u64 - 1, output);
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
        let distance = varint::take(&mut bytes).ok_or(BatchError::IndexList)?;
        let length = varint::take(&mut bytes).ok_or(BatchError::IndexList)?.saturating_add(1);
        let first = expected.checked_add(varint::unzigzag(distance));
        let first = first.and_then(|first| u32::try_from(first).ok());
        let first = first.ok_or(BatchError::IndexList)?;
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
