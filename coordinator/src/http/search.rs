//! Looking for a text in what people name things by, whatever its case.

use novacron_protocol::api::{Code, Problem};
use novacron_protocol::vm::Labels;

use crate::state::node::Node;
use crate::state::vm::Vm;

/// Bytes of a text that is looked for: as long as a label's value may be.
const TEXT_BYTES_MAX: usize = 128;

/// A text to look for. Letters of ASCII are the same in both cases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sought(String);

impl Sought {
    /// The text that a client looks for, if any.
    pub(super) fn parse(text: Option<&str>) -> Result<Option<Self>, Problem> {
        let Some(text) = text else { return Ok(None) };
        if (1..=TEXT_BYTES_MAX).contains(&text.len()) {
            return Ok(Some(Self(text.to_owned())));
        }
        let detail = format!("text: 1 to {TEXT_BYTES_MAX} bytes, not {}", text.len());
        Err(Problem::new(Code::InvalidRequest, detail).about("text"))
    }

    fn is_in(&self, text: &str) -> bool {
        let sought = self.0.as_bytes();
        text.as_bytes().windows(sought.len()).any(|part| part.eq_ignore_ascii_case(sought))
    }

    fn is_in_values(&self, labels: &Labels) -> bool {
        labels.values().any(|value| self.is_in(value))
    }

    /// Whether a machine's name, node, label values or images have it.
    pub(super) fn is_in_machine(&self, vm: &Vm) -> bool {
        let spec = &vm.spec;
        self.is_in(spec.name.as_str())
            || vm.node.as_ref().is_some_and(|node| self.is_in(node.as_str()))
            || self.is_in_values(&spec.labels)
            || spec.disks.iter().any(|disk| self.is_in(&disk.image))
    }

    /// Whether a node's name or label values have it.
    pub(super) fn is_in_node(&self, node: &Node) -> bool {
        self.is_in(node.name.as_str()) || self.is_in_values(&node.facts.labels)
    }
}

/// Labels that are asked for, as `key=value` each.
pub(super) fn labels(texts: &[String]) -> Result<Labels, Problem> {
    let pair = |text: &String| text.split_once('=').map(|(key, value)| (key.into(), value.into()));
    texts.iter().map(pair).collect::<Option<Labels>>().ok_or_else(|| {
        Problem::new(Code::InvalidRequest, "label: write `label=key=value`").about("label")
    })
}

/// Whether labels have all that are asked for.
pub(super) fn has_labels(labels: &Labels, asked: &Labels) -> bool {
    asked.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_whatever_its_case() {
        let sought = |text| Sought::parse(Some(text)).unwrap().unwrap();
        assert!(sought("WEB").is_in("my-web-01") && sought("web").is_in("Web"));
        assert!(!sought("web-01").is_in("web-0") && !sought("x").is_in(""));
        assert!(sought("é").is_in("café") && !sought("É").is_in("café"), "ASCII only");
        for wrong in ["", &"x".repeat(129)] {
            assert_eq!(Sought::parse(Some(wrong)).unwrap_err().field.as_deref(), Some("text"));
        }
        assert_eq!(Sought::parse(None).unwrap(), None);
    }

    #[test]
    fn a_label_is_a_pair() {
        let parsed = labels(&["app=web".to_owned(), "k=v=w".to_owned()]).unwrap();
        assert_eq!(parsed.get("k").map(String::as_str), Some("v=w"));
        assert_eq!(labels(&["app".to_owned()]).unwrap_err().field.as_deref(), Some("label"));
    }
}
