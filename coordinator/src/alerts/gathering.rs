//! Many things of one kind are one thing to look at: most likely they have one cause, such as a switch of a region.

use std::collections::BTreeMap;

use novacron_protocol::alert::{AlertKey, AlertObject, Condition};
use novacron_protocol::api::Severity;

use super::conditions::{Finding, Findings};

/// Things of one kind and one place that have an alert each. One more, and all of them have one together.
pub(super) const SINGLE_MAX: usize = 10;

/// One thing.
pub(super) struct One {
    pub(super) condition: Condition,
    pub(super) object: AlertObject,
    pub(super) finding: Finding,
}

/// Things of one kind, by what they would be gathered under: a region, a project, the whole cluster.
pub(super) struct Gathering {
    many: Condition,
    /// What is said of so many.
    what: &'static str,
    places: BTreeMap<AlertObject, Place>,
}

struct Place {
    ones: Vec<One>,
    worst: Severity,
}

impl Gathering {
    pub(super) fn of(many: Condition, what: &'static str) -> Self {
        Self { many, what, places: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, place: AlertObject, one: One) {
        let worst = one.finding.severity;
        let place = self.places.entry(place);
        let place = place.or_insert_with(|| Place { ones: Vec::new(), worst });
        place.worst = place.worst.min(worst);
        place.ones.push(one);
    }

    pub(super) fn into_findings(self, found: &mut Findings) {
        let Self { many, what, places } = self;
        for (object, Place { ones, worst }) in places {
            let count = ones.len();
            let ones = ones.into_iter();
            let ones = ones.map(|one| (AlertKey::of(one.condition, one.object), one.finding));
            if count <= SINGLE_MAX {
                found.extend(ones);
                continue;
            }
            let summary = format!("{count} {what}, {}", in_words(&object));
            let finding = Finding { severity: worst, summary };
            found.insert(AlertKey::of(many, object), finding);
            found.gather(ones.map(|(key, _)| key));
        }
    }
}

fn in_words(object: &AlertObject) -> String {
    match object {
        AlertObject::Region(region) => format!("in region {region}"),
        AlertObject::Project(project) => format!("of project {project}"),
        AlertObject::Cluster => "in no region".to_owned(),
        other => other.to_string(),
    }
}
