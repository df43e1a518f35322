//! Events as what a stream shows: taken from this member's replica strictly behind the last one that was looked at.

use novacron_protocol::api::Problem;

use super::filter::{Filter, is_seen};
use super::position::{Position, after, check};
use crate::http::feed::{BATCH_BYTES, BATCH_THINGS, Reader, Source};
use crate::http::outlet::Ending;

/// See the module.
pub(super) struct Events {
    pub(super) filter: Filter,
    /// Everything up to here was looked at.
    pub(super) last: Option<Position>,
}

impl Source for Events {
    const WHAT: &'static str = "events";

    async fn take(&mut self, reader: &Reader, text: &mut Vec<u8>) -> Result<bool, Ending> {
        self.look(reader, text).map_err(Ending::Problem)
    }

    fn place(&self) -> Option<String> {
        self.last.map(Position::to_text)
    }
}

impl Events {
    fn look(&mut self, reader: &Reader, text: &mut Vec<u8>) -> Result<bool, Problem> {
        let Reader { api, grant, form } = reader;
        let (filter, last, now) = (&self.filter, self.last, api.now());
        let (last, is_last) = api.glance(|fleet| {
            let sight = grant.sight(fleet, now)?;
            check(fleet, last)?;
            let (mut last, mut looked_at) = (last, 0);
            for event in after(fleet, last) {
                if looked_at >= BATCH_THINGS || text.len() >= BATCH_BYTES {
                    return Ok((last, false));
                }
                if is_seen(&sight, event) && filter.lets_through(event) {
                    form.write(event, text);
                }
                last = Some(Position::of(event));
                looked_at += 1;
            }
            Ok::<_, Problem>((Some(Position::behind(fleet.revision())), true))
        })?;
        self.last = last;
        Ok(is_last)
    }
}
