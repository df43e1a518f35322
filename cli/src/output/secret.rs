//! Secrets, without their values unless those were asked for.

use novacron_protocol::api::{SecretKeysView, SecretRevealed, SecretView};

use super::text::{or_dash, or_nothing, word};
use super::{Fields, Row, Show};

impl Row for SecretView {
    const HEADER: &'static [&'static str] = &["NAME", "PROJECT", "VERSION", "WRITTEN", "BY"];

    fn row(&self) -> Vec<String> {
        vec![
            self.name.to_string(),
            or_dash(self.project.as_ref()),
            self.version.to_string(),
            self.updated_at.to_string(),
            self.updated_by.clone(),
        ]
    }
}

impl Show for SecretView {
    fn fields(&self) -> Fields {
        vec![
            ("name", self.name.to_string()),
            ("project", or_nothing(self.project.as_ref())),
            ("version", self.version.to_string()),
            ("created", self.created_at.to_string()),
            ("written", self.updated_at.to_string()),
            ("by", self.updated_by.clone()),
            ("key", self.key.clone()),
        ]
    }
}

impl Show for SecretRevealed {
    fn fields(&self) -> Fields {
        vec![
            ("name", self.name.to_string()),
            ("version", self.version.to_string()),
            ("value", self.value.expose().to_owned()),
        ]
    }
}

impl Show for SecretKeysView {
    fn fields(&self) -> Fields {
        vec![
            ("key", or_nothing(self.key.as_ref())),
            ("since", or_nothing(self.since)),
            ("turn", word(&self.turn)),
            ("to encrypt anew", self.to_reseal.to_string()),
        ]
    }
}
