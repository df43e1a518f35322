//! Lists: a page at a time, by cursor or by number.
//!
//! A cursor is the key of the last item of the page before. Lists are ordered by key, so going on behind it neither
//! repeats nor leaves out an item that was there all the time, whatever came and went in between.

use novacron_protocol::api::{Code, Page, Problem};
use novacron_protocol::ids::Revision;
use schemars::JsonSchema;
use serde::Deserialize;

/// Items of a page unless said.
pub const LIMIT_DEFAULT: u32 = 100;
/// Items of a page at most.
pub const LIMIT_MAX: u32 = 1000;
/// The last page that can be had by number; cursors have no such end.
const PAGE_MAX: u32 = 1000;

/// Which part of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// Items of a page, 1 to 1,000; 100 unless said.
    #[serde(default)]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Number of the page, from 1; instead of a cursor.
    #[serde(default)]
    pub page: Option<u32>,
}

/// A checked [`ListQuery`]: what to pass over, and how much to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window<K> {
    pub(super) after: Option<K>,
    skip: usize,
    pub(super) limit: usize,
}

impl ListQuery {
    /// The window that is asked for, in a list whose keys `parse` reads.
    pub(super) fn window<K>(
        &self,
        parse: impl FnOnce(&str) -> Option<K>,
    ) -> Result<Window<K>, Problem> {
        let limit = bounded("limit", self.limit.unwrap_or(LIMIT_DEFAULT), LIMIT_MAX)?;
        let page = bounded("page", self.page.unwrap_or(1), PAGE_MAX)?;
        if self.page.is_some() && self.cursor.is_some() {
            return Err(invalid("page", "give a cursor or a page, not both".to_owned()));
        }
        let after = match &self.cursor {
            None => None,
            Some(cursor) => Some(parse(cursor).ok_or_else(|| unknown_cursor())?),
        };
        Ok(Window { after, skip: (page - 1) * limit, limit })
    }
}

impl<K> Window<K> {
    /// The page of the items behind `after` that the window shows. `key` is what the next page begins behind.
    pub(super) fn page<T>(
        &self,
        items: impl Iterator<Item = T>,
        key: impl Fn(&T) -> String,
        revision: Revision,
    ) -> Page<T> {
        let mut items: Vec<T> = items.skip(self.skip).take(self.limit + 1).collect();
        let has_more = items.len() > self.limit;
        items.truncate(self.limit);
        let next_cursor = items.last().filter(|_| has_more).map(key);
        Page { items, next_cursor, revision: revision.0 }
    }
}

fn bounded(field: &str, value: u32, max: u32) -> Result<usize, Problem> {
    match usize::try_from(value) {
        Ok(number) if (1..=max).contains(&value) => Ok(number),
        _ => Err(invalid(field, format!("{value} is outside 1 to {max}"))),
    }
}

/// The cursor is of another list, of an earlier build, or of what is not kept any more.
pub(super) fn unknown_cursor() -> Problem {
    let text = "cursor: not a `next_cursor` of this list; list from the beginning, without one";
    Problem::new(Code::CursorUnknown, text).about("cursor")
}

fn invalid(field: &str, problem: String) -> Problem {
    Problem::new(Code::InvalidRequest, format!("{field}: {problem}")).about(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(query: &ListQuery, items: u64) -> Page<u64> {
        let window = query.window(|text| text.parse::<u64>().ok()).unwrap();
        let behind = (0..items).filter(|item| window.after.is_none_or(|after| *item > after));
        window.page(behind, u64::to_string, Revision(1))
    }

    #[test]
    fn pages_put_together_are_the_list() {
        for items in 0..12 {
            let mut query = ListQuery { limit: Some(5), ..ListQuery::default() };
            let mut all = Vec::new();
            loop {
                let page = page(&query, items);
                all.extend(page.items);
                let Some(cursor) = page.next_cursor else { break };
                query.cursor = Some(cursor);
            }
            assert_eq!(all, (0..items).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_page_can_be_had_by_number() {
        let query = ListQuery { limit: Some(5), page: Some(3), cursor: None };
        assert_eq!(page(&query, 12).items, [10, 11]);
        assert_eq!(page(&query, 10).items, [0; 0]);
    }

    #[test]
    fn what_is_out_of_bounds_is_named() {
        let query = |limit, page, cursor: Option<&str>| {
            let query = ListQuery { limit, page, cursor: cursor.map(str::to_owned) };
            query.window(|text| text.parse::<u64>().ok()).err().and_then(|problem| problem.field)
        };
        assert_eq!(query(Some(0), None, None).as_deref(), Some("limit"));
        assert_eq!(query(Some(1001), None, None).as_deref(), Some("limit"));
        assert_eq!(query(None, Some(0), None).as_deref(), Some("page"));
        assert_eq!(query(None, Some(1), Some("1")).as_deref(), Some("page"));
        assert_eq!(query(None, None, Some("x")).as_deref(), Some("cursor"));
        assert_eq!(query(None, None, Some("1")), None);
    }
}
