//! Which effects to send on one session. An agent does each effect once however often it comes, so sending
//! again is always right, and needed: an agent may have lost what it had not begun.

use std::collections::BTreeMap;
use std::time::Duration;

use novacron_protocol::effect::Effect;
use novacron_protocol::ids::EffectId;
use novacron_protocol::limits::EFFECTS_PER_MESSAGE_MAX;

/// How long an effect may be unanswered before it is sent again.
pub const RESEND_AFTER: Duration = Duration::from_secs(10);

/// What was sent on one session, and when (since the session began).
#[derive(Debug, Default)]
pub struct Dispatch {
    sent: BTreeMap<EffectId, Duration>,
}

impl Dispatch {
    /// The effects to send now, at most a message full of them, given all open effects of the node in order.
    pub fn due<'a>(
        &mut self,
        open: impl Iterator<Item = &'a Effect>,
        now: Duration,
    ) -> Vec<Effect> {
        let mut still_open = BTreeMap::new();
        let mut due = Vec::new();
        for effect in open {
            let before = self.sent.get(&effect.id);
            let is_due = before.is_none_or(|before| now.saturating_sub(*before) >= RESEND_AFTER);
            if is_due && due.len() < EFFECTS_PER_MESSAGE_MAX {
                due.push(effect.clone());
                still_open.insert(effect.id, now);
            } else if let Some(before) = before {
                still_open.insert(effect.id, *before);
            }
        }
        self.sent = still_open;
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use novacron_protocol::effect::Action;
    use novacron_protocol::ids::{Generation, RequestId, VmId};
    use novacron_protocol::time::Timestamp;
    use uuid::Uuid;

    fn effect(id: u64) -> Effect {
        Effect {
            id: EffectId(id),
            vm: VmId(Uuid::nil()),
            generation: Generation(1),
            deadline: Timestamp::from_unix_ms(1),
            request: RequestId(Uuid::nil()),
            action: Action::Start,
        }
    }

    fn due(dispatch: &mut Dispatch, open: &[u64], seconds: u64) -> Vec<u64> {
        let open: Vec<Effect> = open.iter().map(|id| effect(*id)).collect();
        let due = dispatch.due(open.iter(), Duration::from_secs(seconds));
        due.into_iter().map(|effect| effect.id.0).collect()
    }

    #[test]
    fn each_is_sent_at_once_and_again_after_a_while() {
        let mut dispatch = Dispatch::default();
        assert_eq!(due(&mut dispatch, &[1, 2], 0), [1, 2]);
        assert!(due(&mut dispatch, &[1, 2], 9).is_empty());
        assert_eq!(due(&mut dispatch, &[2, 3], 10), [2, 3]);
        assert!(due(&mut dispatch, &[2, 3], 19).is_empty());
        assert_eq!(due(&mut dispatch, &[2], 20), [2]);
    }

    #[test]
    fn a_message_is_bounded_and_the_rest_follows() {
        let mut dispatch = Dispatch::default();
        let open: Vec<u64> = (0..EFFECTS_PER_MESSAGE_MAX as u64 + 1).collect();
        assert_eq!(due(&mut dispatch, &open, 0).len(), EFFECTS_PER_MESSAGE_MAX);
        assert_eq!(due(&mut dispatch, &open, 0), [EFFECTS_PER_MESSAGE_MAX as u64]);
    }
}
