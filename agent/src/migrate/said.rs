//! What one side has said in a migration and the other may not have heard: pure.

use bytes::Bytes;

use super::control::ControlError;

/// Messages that one side may say in one migration: a few dozen, and what the target has of disks and memory in pieces.
pub(super) const MESSAGES_MAX: u64 = 4096;

/// The messages that are said again if the link is lost, in order; they are counted from the first, forgotten or not.
#[derive(Debug, Default)]
pub(super) struct Said {
    forgotten: u64,
    kept: Vec<Bytes>,
    mark: u64,
}

impl Said {
    /// One more.
    ///
    /// # Errors
    /// [`ControlError::TooMany`].
    pub fn push(&mut self, message: Bytes) -> Result<(), ControlError> {
        if self.count() >= MESSAGES_MAX {
            return Err(ControlError::TooMany);
        }
        self.kept.push(message);
        Ok(())
    }

    fn count(&self) -> u64 {
        self.forgotten + self.kept.len() as u64
    }

    /// The other side will show by what it does that it has heard everything until now.
    pub fn mark(&mut self) {
        self.mark = self.count();
    }

    /// The other side has shown that it has heard everything before the mark: none of it is kept any longer.
    pub fn forget_marked(&mut self) {
        // Before the first mark, and when it is shown again, nothing.
        let shown = self.mark.saturating_sub(self.forgotten);
        self.kept.drain(..usize::try_from(shown).unwrap_or(usize::MAX));
        self.forgotten += shown;
    }

    /// What the other side has not heard, which says that it has heard so many messages.
    ///
    /// # Errors
    /// [`ControlError::Miscounted`] of more than were said; [`ControlError::Unheard`] of fewer than it has shown to have
    /// heard.
    pub fn after(&self, heard: u64) -> Result<&[Bytes], ControlError> {
        let index = heard.checked_sub(self.forgotten);
        let index = index.ok_or(ControlError::Unheard { heard, shown: self.forgotten })?;
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        self.kept.get(index..).ok_or(ControlError::Miscounted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(said: &Said, heard: u64) -> Result<Vec<u8>, String> {
        let words = said.after(heard).map_err(|error| error.to_string())?;
        Ok(words.iter().map(|word| word[0]).collect())
    }

    /// Two messages before the mark, and one after it.
    fn marked() -> Said {
        let mut said = Said::default();
        said.push(Bytes::from_static(&[0])).unwrap();
        said.push(Bytes::from_static(&[1])).unwrap();
        said.mark();
        said.push(Bytes::from_static(&[2])).unwrap();
        said
    }

    #[test]
    fn everything_is_kept_until_it_is_shown_to_be_heard() {
        let said = marked();
        assert_eq!(words(&said, 0), Ok(vec![0, 1, 2]));
        assert_eq!(words(&said, 2), Ok(vec![2]));
        assert_eq!(words(&said, 3), Ok(vec![]));
    }

    #[test]
    fn what_was_shown_to_be_heard_is_forgotten_once() {
        let mut said = marked();
        for _ in 0..2 {
            said.forget_marked();
            assert_eq!(said.kept.len(), 1);
            assert_eq!(words(&said, 2), Ok(vec![2]));
            assert_eq!(words(&said, 3), Ok(vec![]));
        }
        said.push(Bytes::from_static(&[3])).unwrap();
        said.mark();
        said.forget_marked();
        assert_eq!(words(&said, 4), Ok(vec![]));
    }

    #[test]
    fn nothing_is_forgotten_without_a_mark() {
        let mut said = Said::default();
        said.push(Bytes::from_static(&[0])).unwrap();
        said.forget_marked();
        assert_eq!(words(&said, 0), Ok(vec![0]));
    }

    #[test]
    fn a_side_that_miscounts_is_told_so() {
        let mut said = marked();
        said.forget_marked();
        assert_eq!(
            words(&said, 1).unwrap_err(),
            "the other agent says that it has heard 1 messages, and has acted on 2"
        );
        assert_eq!(words(&said, 4).unwrap_err(), "the other agent has heard more than was said");
    }

    #[test]
    fn what_is_forgotten_counts_as_said() {
        let mut said = Said::default();
        for _ in 0..MESSAGES_MAX {
            said.push(Bytes::new()).unwrap();
        }
        said.mark();
        said.forget_marked();
        assert!(matches!(said.push(Bytes::new()), Err(ControlError::TooMany)));
    }
}
