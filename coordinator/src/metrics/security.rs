//! Who was refused, and why: each refusal once, under one word.

use std::fmt;
use std::sync::Arc;

use novacron_metrics::moment::Moment;
use novacron_protocol::api::Code;
use novacron_transport::Counters;
use novacron_transport::enrolment::RefusalCode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::auth::NotAllowed;
use crate::state::access::Unknown;

/// Why a request was refused for who asked, or for a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalReason {
    /// Neither certificate nor key.
    NothingShown,
    /// A certificate without a usable identity.
    CertificateNameless,
    /// The certificate of an agent or a coordinator.
    CertificateRole,
    /// A certificate whose name is no operator, or none any more.
    CertificateUnknown,
    /// A principal that may do nothing at the moment.
    PrincipalDisabled,
    /// A header that holds no key.
    KeyMalformed,
    /// A key that was revoked or never made, or another secret. Which of them is not told apart.
    KeyUnknown,
    /// A key that is too old.
    KeyExpired,
    /// A permission is missing.
    Permission,
    /// Too many requests.
    Rate,
    /// A rule of residency.
    Residency,
    /// A quota of a project, or its plan.
    Quota,
    /// Who asks was refused, and would not be now.
    Other,
}

impl RefusalReason {
    const ALL: [Self; 13] = [
        Self::NothingShown,
        Self::CertificateNameless,
        Self::CertificateRole,
        Self::CertificateUnknown,
        Self::PrincipalDisabled,
        Self::KeyMalformed,
        Self::KeyUnknown,
        Self::KeyExpired,
        Self::Permission,
        Self::Rate,
        Self::Residency,
        Self::Quota,
        Self::Other,
    ];

    /// What a problem's code says. `why` is asked where that is not enough: what the fleet says to who asks.
    pub fn of(code: Code, why: impl FnOnce() -> Option<NotAllowed>) -> Option<Self> {
        match code {
            Code::NotAuthenticated => Some(why().map_or(Self::Other, |why| Self::of_refusal(&why))),
            Code::NotAllowed => Some(match why() {
                Some(NotAllowed::Role(_)) => Self::CertificateRole,
                _ => Self::Permission,
            }),
            Code::RateLimited | Code::TooManyAtOnce => Some(Self::Rate),
            Code::ResidencyRule => Some(Self::Residency),
            Code::QuotaExceeded | Code::PlanFull => Some(Self::Quota),
            _ => None,
        }
    }

    fn of_refusal(refusal: &NotAllowed) -> Self {
        match refusal {
            NotAllowed::NothingShown => Self::NothingShown,
            NotAllowed::Nameless(_) => Self::CertificateNameless,
            NotAllowed::Role(_) => Self::CertificateRole,
            NotAllowed::MalformedKey => Self::KeyMalformed,
            NotAllowed::Unknown(Unknown::Operator(_)) => Self::CertificateUnknown,
            NotAllowed::Unknown(Unknown::Disabled(_)) => Self::PrincipalDisabled,
            NotAllowed::Unknown(Unknown::Key) => Self::KeyUnknown,
            NotAllowed::Unknown(Unknown::KeyExpired) => Self::KeyExpired,
            NotAllowed::Missing(_) => Self::Permission,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::NothingShown => "nothing_shown",
            Self::CertificateNameless => "certificate_nameless",
            Self::CertificateRole => "certificate_role",
            Self::CertificateUnknown => "certificate_unknown",
            Self::PrincipalDisabled => "principal_disabled",
            Self::KeyMalformed => "key_malformed",
            Self::KeyUnknown => "key_unknown",
            Self::KeyExpired => "key_expired",
            Self::Permission => "permission",
            Self::Rate => "rate",
            Self::Residency => "residency",
            Self::Quota => "quota",
            Self::Other => "other",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// Counters of refusals, all of them from the beginning: a rate needs what was before the first. Clones share them.
#[derive(Debug, Clone)]
pub struct SecurityMetrics(Family<Reason, Counter>);

impl Default for SecurityMetrics {
    fn default() -> Self {
        let refused = Family::default();
        for reason in RefusalReason::ALL {
            let _ = refused.get_or_create_owned(&Reason { reason: reason.word() });
        }
        Self(refused)
    }
}

impl SecurityMetrics {
    /// A request was refused.
    pub fn refused(&self, reason: RefusalReason) {
        self.0.get_or_create(&Reason { reason: reason.word() }).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "novacron_security_refusals",
            "Requests that were refused for who asked or for a policy, by why",
            self.0.clone(),
        );
    }
}

/// What became of applicants who wanted to join here.
#[derive(Debug)]
pub struct EnrolmentNumbers(pub Arc<Counters>);

impl Collector for EnrolmentNumbers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let refused = RefusalCode::ALL.map(|code| (code.word(), self.0.enrolments_refused(code)));
        let granted = [("granted", self.0.enrolments_granted.get())];
        Moment::new(encoder).counters(
            "novacron_enrolments",
            "Applicants who came to this member with a join token, by what became of them",
            "outcome",
            granted.into_iter().chain(refused),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_a_word_of_its_own_and_is_there_from_the_beginning() {
        let words: BTreeSet<_> = RefusalReason::ALL.iter().map(|reason| reason.word()).collect();
        assert_eq!(words.len(), RefusalReason::ALL.len());
    }

    #[test]
    fn what_is_no_question_of_who_asks_is_not_counted() {
        let of = |code| RefusalReason::of(code, || None);
        assert_eq!([Code::NotFound, Code::Conflict, Code::NoCapacity].map(of), [None; 3]);
        assert_eq!(of(Code::NotAuthenticated), Some(RefusalReason::Other));
        assert_eq!(of(Code::NotAllowed), Some(RefusalReason::Permission));
    }
}
