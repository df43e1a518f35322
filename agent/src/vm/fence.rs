//! The fence: an effect passes only with the generation that this agent holds.

use novacron_protocol::effect::EffectOutcome;
use novacron_protocol::ids::Generation;

/// Something that was ordered for the generation that this agent holds. Only [`fence`] makes one.
#[derive(Debug)]
pub struct Fenced<T>(T);

impl<T> Fenced<T> {
    /// What was ordered.
    pub fn into_inner(self) -> T {
        self.0
    }
}

/// An order for a generation that this agent does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the order is not for the generation that this agent holds")]
pub struct Stale {
    /// The generation that it holds, if it has the machine at all.
    pub held: Option<Generation>,
}

impl From<Stale> for EffectOutcome {
    fn from(stale: Stale) -> Self {
        Self::Stale { held: stale.held }
    }
}

/// Lets an order for generation `ordered` pass if that is the one held.
///
/// # Errors
/// [`Stale`] with what is held.
pub fn fence<T>(
    order: T,
    ordered: Generation,
    held: Option<Generation>,
) -> Result<Fenced<T>, Stale> {
    if held == Some(ordered) { Ok(Fenced(order)) } else { Err(Stale { held }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_held_generation_passes() {
        let held = Some(Generation(4));
        assert_eq!(fence("start", Generation(4), held).unwrap().into_inner(), "start");
        for ordered in [Generation(3), Generation(5)] {
            assert_eq!(fence("start", ordered, held).unwrap_err(), Stale { held });
        }
        assert_eq!(fence("start", Generation(4), None).unwrap_err(), Stale { held: None });
    }
}
