//! Annotations: texts that people and tools keep beside machines. Rows of their own, so that changing one writes no more
//! than that one.

use std::ops::Bound::{Excluded, Unbounded};

use novacron_protocol::annotation::{Annotations, check_key, check_value};
use novacron_protocol::ids::VmId;
use novacron_protocol::limits::ANNOTATIONS_MAX;
use novacron_protocol::vm::InvalidField;
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::fleet::Fleet;
use super::reply::{Accepted, Refusal, Reply};
use super::table::{Key, ROW_BYTES_MAX};
use super::vm::Rest;

/// Bytes of keys and values of the whole fleet: the fleet is held in memory, and this is some 3 KiB for each of 20,000
/// machines.
pub const ANNOTATIONS_BYTES_MAX: usize = 64 << 20;

/// Bytes of a machine's id in an encoded key.
const ID_BYTES: usize = 16;

/// Whose annotation, and which.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AnnotationKey {
    /// The machine.
    pub vm: VmId,
    /// The key.
    pub key: String,
}

impl Key for AnnotationKey {
    fn encode(&self) -> Vec<u8> {
        [self.vm.0.as_bytes(), self.key.as_bytes()].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (vm, key) = bytes.split_at_checked(ID_BYTES)?;
        Some(Self {
            vm: VmId(Uuid::from_slice(vm).ok()?),
            key: String::from_utf8(key.to_vec()).ok()?,
        })
    }
}

/// A text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotation(pub String);

impl Message for Annotation {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "annotation row";
}

impl Fleet {
    /// Keeps a text beside a machine, or removes it.
    pub(super) fn annotate(&mut self, vm: VmId, key: &str, value: Option<&str>) -> Reply {
        let machine = self.vms.get(&vm).ok_or(Refusal::NoSuchVm(vm))?;
        if machine.rest == Rest::Deleted {
            return Err(Refusal::Conflict(format!("machine {vm} is deleted")));
        }
        let key = AnnotationKey { vm, key: key.to_owned() };
        match value {
            Some(value) => self.put_annotation(key, value)?,
            None if self.annotations.get(&key).is_some() => self.remove_annotation(&key),
            None => return Err(Refusal::NoSuchAnnotation { vm, key: key.key }),
        }
        Ok(Accepted::Vm(vm))
    }

    fn put_annotation(&mut self, key: AnnotationKey, value: &str) -> Result<(), Refusal> {
        check_key(&key.key).and_then(|()| check_value(value)).map_err(invalid)?;
        let is_new = self.annotations.get(&key).is_none();
        if is_new && self.annotations_of(key.vm).count() >= ANNOTATIONS_MAX {
            let text = format!("a machine has at most {ANNOTATIONS_MAX} annotations; remove one");
            return Err(Refusal::Full(text));
        }
        let bytes = self.index.annotation_bytes - self.bytes_of(&key) + size(&key, value);
        if bytes > ANNOTATIONS_BYTES_MAX {
            let mib = ANNOTATIONS_BYTES_MAX >> 20;
            return Err(Refusal::Full(format!("all annotations have {mib} MiB; remove some")));
        }
        self.index.annotation_bytes = bytes;
        self.annotations.insert(key, Annotation(value.to_owned()));
        Ok(())
    }

    fn remove_annotation(&mut self, key: &AnnotationKey) {
        self.index.annotation_bytes -= self.bytes_of(key);
        self.annotations.remove(key);
    }

    /// Removes what was kept beside a machine that is gone.
    pub(super) fn forget_annotations(&mut self, vm: VmId) {
        let keys: Vec<_> = self.annotations_of(vm).map(|(key, _)| key.to_owned()).collect();
        for key in keys {
            self.remove_annotation(&AnnotationKey { vm, key });
        }
    }

    /// What is kept beside a machine, in the order of the keys.
    pub fn annotations_of(&self, vm: VmId) -> impl Iterator<Item = (&str, &str)> {
        // No annotation has the empty key.
        let from = AnnotationKey { vm, key: String::new() };
        let rows = self.annotations.range((Excluded(from), Unbounded));
        let rows = rows.take_while(move |(key, _)| key.vm == vm);
        rows.map(|(key, Annotation(value))| (key.key.as_str(), value.as_str()))
    }

    /// The same as a map.
    pub fn annotations(&self, vm: VmId) -> Annotations {
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        self.annotations_of(vm).map(owned).collect()
    }

    /// What is kept beside a machine under a key.
    pub fn annotation(&self, vm: VmId, key: &str) -> Option<&str> {
        let row = self.annotations.get(&AnnotationKey { vm, key: key.to_owned() });
        row.map(|Annotation(value)| value.as_str())
    }

    fn bytes_of(&self, key: &AnnotationKey) -> usize {
        self.annotations.get(key).map_or(0, |Annotation(value)| size(key, value))
    }

    pub(super) fn all_annotation_bytes(&self) -> usize {
        self.annotations.iter().map(|(key, Annotation(value))| size(key, value)).sum()
    }

    pub(super) fn check_annotations(&self) -> Result<(), String> {
        for (key, Annotation(value)) in self.annotations.iter() {
            let is_right = check_key(&key.key).is_ok() && check_value(value).is_ok();
            let machine = self.vms.get(&key.vm).filter(|vm| vm.rest != Rest::Deleted);
            let count = self.annotations_of(key.vm).count();
            if !is_right || machine.is_none() || count > ANNOTATIONS_MAX {
                return Err(format!("{key:?}: wrong, one too many or of no machine"));
            }
        }
        let is_within = self.index.annotation_bytes <= ANNOTATIONS_BYTES_MAX;
        is_within.then_some(()).ok_or_else(|| "too many bytes of annotations".to_owned())
    }
}

fn size(key: &AnnotationKey, value: &str) -> usize {
    key.key.len() + value.len()
}

fn invalid(wrong: InvalidField) -> Refusal {
    Refusal::Invalid { field: wrong.field, problem: wrong.problem }
}
