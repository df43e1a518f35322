//! When QEMU may stop the guest: pure.
//!
//! The session allows it when the target is prepared and the disks are the same there. The target's QEMU is given its
//! stream only once its memory is what it is known to be, which takes a second for some GiB that an image holds; a guest
//! that was stopped before would wait for that. That it gets its stream is known by its first answer to it: QEMU begins
//! every stream with a question.

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Gate {
    is_allowed: bool,
    has_answered: bool,
}

impl Gate {
    /// The session allows it; whether it may be done now.
    pub(super) fn allow(&mut self) -> bool {
        !std::mem::replace(&mut self.is_allowed, true) && self.has_answered
    }

    /// The target's QEMU has answered; whether it may be done now, and was not before.
    pub(super) fn answered(&mut self) -> bool {
        !std::mem::replace(&mut self.has_answered, true) && self.is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_once_when_both_have_come_in_either_order() {
        let mut gate = Gate::default();
        assert!(!gate.allow());
        assert!(gate.answered());
        assert!(!gate.answered() && !gate.allow());

        let mut gate = Gate::default();
        assert!(!gate.answered());
        assert!(gate.allow());
        assert!(!gate.answered() && !gate.allow());
    }
}
