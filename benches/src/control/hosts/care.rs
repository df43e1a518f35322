//! The machines in a simulated host's care, and what becomes of what it is told to do. Pure. The rules are the agent's:
//! nothing is done for a generation that is not held, and nothing twice. There are no guests, so all is done at once.

use std::collections::BTreeMap;

use novacron_protocol::effect::{
    Action, Effect, EffectOutcome, MachineReport, ObservedState, Report,
};
use novacron_protocol::ids::{EffectId, Generation, VmId};

/// See the module. As many machines as the coordinators give the host: they bound that.
#[derive(Debug, Default)]
pub struct Care {
    held: BTreeMap<VmId, Held>,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    generation: Generation,
    is_running: bool,
    /// The last effect that was carried out; ids ascend.
    last: EffectId,
}

/// What became of an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// What the coordinators are to be told.
    pub reports: Vec<Report>,
    /// Whether something was done, for the first time.
    pub is_new: bool,
}

impl Care {
    /// Every machine, as a hello says it.
    pub fn inventory(&self) -> Vec<MachineReport> {
        self.held.iter().map(|(vm, held)| held.report(*vm)).collect()
    }

    /// Every machine with the generation that is held.
    pub fn machines(&self) -> Vec<(VmId, Generation)> {
        self.held.iter().map(|(vm, held)| (*vm, held.generation)).collect()
    }

    /// Does what is to be done, unless it is done.
    pub fn carry_out(&mut self, effect: &Effect) -> Carried {
        let held = self.held.get(&effect.vm).copied();
        let is_repeated = held.is_some_and(|held| effect.id <= held.last);
        let outcome = match is_repeated {
            true => EffectOutcome::Done,
            false => self.outcome(held, effect),
        };
        let is_new = !is_repeated && outcome == EffectOutcome::Done;
        let mut reports = vec![Report::EffectDone { effect: effect.id, outcome }];
        let now = self.held.get(&effect.vm);
        reports.extend(now.map(|held| Report::Machine(held.report(effect.vm))));
        Carried { reports, is_new }
    }

    fn outcome(&mut self, held: Option<Held>, effect: &Effect) -> EffectOutcome {
        let is_held = held.is_some_and(|held| held.generation == effect.generation);
        let is_running = match &effect.action {
            Action::Create { .. } if held.is_none() || is_held => false,
            Action::Start if is_held => true,
            Action::Stop { .. } if is_held => false,
            Action::Destroy if is_held => {
                self.held.remove(&effect.vm);
                return EffectOutcome::Done;
            }
            Action::Create { .. } | Action::Start | Action::Stop { .. } | Action::Destroy => {
                return EffectOutcome::Stale { held: held.map(|held| held.generation) };
            }
            _ => {
                let reason =
                    "a simulated host makes, starts, stops and removes machines only".to_owned();
                return EffectOutcome::Failed { reason };
            }
        };
        let held = Held { generation: effect.generation, is_running, last: effect.id };
        self.held.insert(effect.vm, held);
        EffectOutcome::Done
    }
}

impl Held {
    fn report(&self, vm: VmId) -> MachineReport {
        let state = match self.is_running {
            true => ObservedState::Running,
            false => ObservedState::Stopped,
        };
        MachineReport { vm, generation: self.generation, state, reason: String::new() }
    }
}

#[cfg(test)]
mod tests {
    use novacron_protocol::ids::RequestId;
    use novacron_protocol::time::Timestamp;
    use novacron_protocol::vm::VmSpec;
    use uuid::Uuid;

    use super::*;

    fn effect(id: u64, generation: u64, action: Action) -> Effect {
        Effect {
            id: EffectId(id),
            vm: VmId(Uuid::from_u128(1)),
            generation: Generation(generation),
            deadline: Timestamp::from_unix_ms(1),
            request: RequestId(Uuid::nil()),
            action,
        }
    }

    fn spec() -> VmSpec {
        let create = novacron_protocol::api::VmCreate { name: "a".into(), ..Default::default() };
        create.to_spec().unwrap()
    }

    fn outcome(carried: &Carried) -> EffectOutcome {
        let Report::EffectDone { outcome, .. } = &carried.reports[0] else { panic!("{carried:?}") };
        outcome.clone()
    }

    fn is_running(care: &Care) -> Vec<bool> {
        let states = care.inventory().into_iter().map(|report| report.state);
        states.map(|state| state == ObservedState::Running).collect()
    }

    #[test]
    fn a_machine_is_made_started_stopped_and_removed() {
        let mut care = Care::default();
        let steps = [
            (Action::Create { spec: spec() }, vec![false]),
            (Action::Start, vec![true]),
            (Action::Stop { force: false }, vec![false]),
            (Action::Destroy, vec![]),
        ];
        for (id, (action, running)) in (1..).zip(steps) {
            let carried = care.carry_out(&effect(id, 2, action));
            assert!(carried.is_new && outcome(&carried) == EffectOutcome::Done);
            assert_eq!(is_running(&care), running);
        }
        let again = care.carry_out(&effect(4, 2, Action::Destroy));
        assert_eq!(outcome(&again), EffectOutcome::Stale { held: None });
    }

    #[test]
    fn what_comes_again_is_answered_and_not_done() {
        let mut care = Care::default();
        care.carry_out(&effect(1, 2, Action::Create { spec: spec() }));
        care.carry_out(&effect(2, 2, Action::Start));
        care.carry_out(&effect(3, 2, Action::Stop { force: false }));
        let again = care.carry_out(&effect(2, 2, Action::Start));
        assert!(!again.is_new && outcome(&again) == EffectOutcome::Done);
        assert_eq!(is_running(&care), [false]);
    }

    #[test]
    fn another_generation_changes_nothing() {
        let mut care = Care::default();
        care.carry_out(&effect(1, 2, Action::Create { spec: spec() }));
        let stale = care.carry_out(&effect(2, 1, Action::Start));
        assert_eq!(outcome(&stale), EffectOutcome::Stale { held: Some(Generation(2)) });
        assert!(!stale.is_new && is_running(&care) == [false]);
    }
}
