//! What is between source and target.

use std::collections::VecDeque;

use novacron_protocol::session::message::{SourceMessage, TargetMessage};

/// Messages on the way in one direction that a wild network keeps across connections: of older ones it loses the oldest.
const KEPT_MAX: usize = 6;

/// The link.
#[derive(Debug, Clone)]
pub struct Link {
    pub is_up: bool,
    /// Nothing has arrived at the target on this connection.
    pub is_fresh: bool,
    pub to_target: VecDeque<SourceMessage>,
    pub to_source: VecDeque<TargetMessage>,
    is_wild: bool,
}

impl Link {
    pub fn new(is_wild: bool) -> Self {
        Self {
            is_up: false,
            is_fresh: false,
            to_target: VecDeque::new(),
            to_source: VecDeque::new(),
            is_wild,
        }
    }

    pub fn is_busy(&self) -> bool {
        self.is_up && !(self.to_source.is_empty() && self.to_target.is_empty())
    }

    /// The connection is gone, and what was on it.
    pub fn forget(&mut self) {
        if self.is_wild {
            keep_newest(&mut self.to_target);
            keep_newest(&mut self.to_source);
        } else {
            self.to_target.clear();
            self.to_source.clear();
        }
    }

    /// The oldest message is overtaken by all others.
    pub fn delay_to_target(&mut self) {
        self.to_target.rotate_left(1);
    }

    /// As [`Self::delay_to_target`].
    pub fn delay_to_source(&mut self) {
        self.to_source.rotate_left(1);
    }
}

fn keep_newest<M>(messages: &mut VecDeque<M>) {
    let surplus = messages.len().saturating_sub(KEPT_MAX);
    messages.drain(..surplus);
}
