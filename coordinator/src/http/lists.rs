//! Lists: a page at a time, by cursor or by number.
//!
//! A cursor is the key of the last row that the page before looked at. Lists are ordered by key, so going on behind it
//! neither repeats nor leaves out an item that was there all the time, whatever came and went in between.
//!
//! A filter may let little through. The fleet is locked for so many rows only: behind them a page that goes by cursor ends,
//! with as much as it has, and one that goes by number looks again.

use std::fmt::Display;
use std::str::FromStr;

use novacron_protocol::api::{Code, Page, Problem};
use novacron_protocol::ids::Revision;
use schemars::JsonSchema;
use serde::Deserialize;

use super::weigh::Weigh;

/// Items of a page unless said.
pub const LIMIT_DEFAULT: u32 = 100;
/// Items of a page at most.
pub const LIMIT_MAX: u32 = 1000;
/// The last page that can be had by number; cursors have no such end.
const PAGE_MAX: u32 = 1000;

/// Rows that are looked at under one lock of the fleet. With some 0.2 µs each (8 µs, if a machine has 64 labels of 128
/// bytes and a text is looked for in them) nobody who changes the fleet waits longer than 0.4 ms (16 ms).
pub(super) const LOOK_ROWS_MAX: usize = 2_048;

/// Bytes of a page's items as JSON, roughly: a thousand machines as they usually are. A page by cursor ends there.
pub(super) const PAGE_BYTES_MAX: usize = 4 << 20;

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

/// How the cursors of a list are written: keys behind a word of the list's own, so that those of others are told from them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursors(pub(super) &'static str);

impl Cursors {
    /// The key in a cursor, if it is one of this list.
    pub(super) fn parse<K: FromStr>(self, text: &str) -> Option<K> {
        text.strip_prefix(self.0)?.parse().ok()
    }

    /// The cursor of a key.
    pub(super) fn write(self, key: &impl Display) -> String {
        format!("{}{key}", self.0)
    }
}

/// A checked [`ListQuery`]: what to pass over, and how much to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window<K> {
    pub(super) after: Option<K>,
    skip: usize,
    pub(super) limit: usize,
    is_numbered: bool,
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
            Some(cursor) => Some(parse(cursor).ok_or_else(unknown_cursor)?),
        };
        Ok(Window { after, skip: (page - 1) * limit, limit, is_numbered: self.page.is_some() })
    }
}

impl ListQuery {
    /// Whether what comes before the page has to be looked at, too.
    pub(super) fn is_scan(&self) -> bool {
        self.page.is_some()
    }
}

impl<K> Window<K> {
    /// A page that is put together in one look after the other.
    pub(super) fn gather<T>(self) -> Gathering<K, T> {
        Gathering {
            has_number: self.is_numbered,
            after: self.after,
            skip: self.skip,
            limit: self.limit,
            rows_max: LOOK_ROWS_MAX,
            bytes_left: PAGE_BYTES_MAX,
            items: Vec::new(),
            has_more: false,
            revision: None,
        }
    }
}

/// A page that is being put together.
#[derive(Debug)]
pub(super) struct Gathering<K, T> {
    /// The last row that was looked at.
    after: Option<K>,
    /// Items that are still to be passed over.
    skip: usize,
    limit: usize,
    rows_max: usize,
    /// What more items may have, as JSON.
    bytes_left: usize,
    /// Whether the page was asked for by its number: then it is looked for until it is full.
    has_number: bool,
    items: Vec<T>,
    has_more: bool,
    /// The revision of the first look.
    revision: Option<Revision>,
}

impl<K: Clone, T: Weigh> Gathering<K, T> {
    /// Behind which row to look next.
    pub(super) fn after(&self) -> Option<&K> {
        self.after.as_ref()
    }

    /// Looks at the next rows, which begin behind [`Gathering::after`]; whether the page is done. `show` says how a row is
    /// shown, if it is.
    pub(super) fn look<R>(
        &mut self,
        revision: Revision,
        rows: impl Iterator<Item = R>,
        key: impl Fn(&R) -> K,
        show: impl Fn(R) -> Option<T>,
    ) -> bool {
        self.revision.get_or_insert(revision);
        for (looked_at, row) in rows.enumerate() {
            if looked_at == self.rows_max {
                self.has_more = !self.has_number;
                return self.has_more;
            }
            let key = key(&row);
            if let Some(item) = show(row)
                && !self.take(item)
            {
                self.has_more = true;
                return true;
            }
            self.after = Some(key);
        }
        true
    }

    /// Takes an item, if there is room for one more.
    fn take(&mut self, item: T) -> bool {
        if self.skip > 0 {
            self.skip -= 1;
            return true;
        }
        if self.items.len() == self.limit {
            return false;
        }
        // However large it is, one item is a page.
        let bytes = item.weigh();
        if bytes > self.bytes_left && !self.items.is_empty() {
            return false;
        }
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.items.push(item);
        true
    }

    /// The page, with a cursor if there may be more.
    ///
    /// # Errors
    /// `invalid_request` for a page by number that is too large to be whole: the next one would leave out what this one lacks.
    pub(super) fn into_page(self, cursor: impl FnOnce(&K) -> String) -> Result<Page<T>, Problem> {
        let is_short = self.has_more && self.items.len() < self.limit;
        if self.has_number && is_short {
            let text = format!(
                "such a page has more than {PAGE_BYTES_MAX} bytes; give a smaller limit, or go by cursor"
            );
            return Err(invalid("page", text));
        }
        let next_cursor = self.after.as_ref().filter(|_| self.has_more).map(cursor);
        let revision = self.revision.unwrap_or_default().0;
        Ok(Page { items: self.items, next_cursor, revision })
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
    use std::collections::BTreeSet;

    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

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

    impl Weigh for u64 {}

    #[test]
    fn a_page_is_bounded_in_bytes_and_one_by_number_is_whole_or_refused() {
        let table: BTreeSet<u64> = (0..40).collect();
        let limited = |query: ListQuery| {
            let mut page = query.window(|text| text.parse::<u64>().ok()).unwrap().gather();
            page.bytes_left = 10 * u64::weigh(&0);
            page.look(Revision(1), table.iter().copied(), |row| *row, Some);
            page.into_page(u64::to_string)
        };
        let page = limited(ListQuery::default()).unwrap();
        assert_eq!((page.items.len(), page.next_cursor.as_deref()), (10, Some("9")));
        let refused = limited(ListQuery { page: Some(1), ..ListQuery::default() }).unwrap_err();
        assert_eq!(refused.field.as_deref(), Some("page"));
        let query = ListQuery { page: Some(2), limit: Some(10), ..ListQuery::default() };
        assert_eq!(limited(query).unwrap().items, (10..20).collect::<Vec<_>>());
    }

    /// One page of the even rows of a table.
    fn gathered(query: &ListQuery, table: &BTreeSet<u64>, rows_max: usize) -> Page<u64> {
        let window = query.window(|text| text.parse::<u64>().ok()).unwrap();
        let mut page = Gathering { rows_max, ..window.gather() };
        loop {
            let after = page.after().copied();
            let rows = table.iter().copied().filter(|row| after.is_none_or(|after| *row > after));
            let show = |row: u64| row.is_multiple_of(2).then_some(row);
            if page.look(Revision(1), rows, |row| *row, show) {
                return page.into_page(u64::to_string).unwrap();
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_there_throughout_is_seen_once_whatever_comes_and_goes(
            begin in btree_set(0_u64..200, 0..120),
            changes in vec((any::<bool>(), 0_u64..200), 0..200),
            limit in 1_u32..9,
            rows_max in 1_usize..12,
        ) {
            let (mut table, mut throughout) = (begin.clone(), begin);
            let mut changes = changes.into_iter();
            let mut query = ListQuery { limit: Some(limit), ..ListQuery::default() };
            let mut seen = Vec::new();
            loop {
                let page = gathered(&query, &table, rows_max);
                prop_assert!(page.items.len() <= limit as usize);
                seen.extend(page.items);
                let Some(cursor) = page.next_cursor else { break };
                query.cursor = Some(cursor);
                for (comes, row) in changes.by_ref().take(3) {
                    if comes { table.insert(row) } else { throughout.remove(&row); table.remove(&row) };
                }
            }
            prop_assert!(seen.is_sorted_by(|one, next| one < next), "{seen:?}");
            let seen: BTreeSet<u64> = seen.into_iter().collect();
            let missed: Vec<_> =
                throughout.iter().filter(|row| row.is_multiple_of(2) && !seen.contains(row)).collect();
            prop_assert!(missed.is_empty(), "{missed:?}");
        }

        #[test]
        fn a_page_by_number_is_that_of_the_whole_list(
            table in btree_set(0_u64..200, 0..120),
            limit in 1_u32..9,
            number in 1_u32..9,
            rows_max in 1_usize..12,
        ) {
            let query = ListQuery { limit: Some(limit), page: Some(number), cursor: None };
            let even = table.iter().copied().filter(|row| row.is_multiple_of(2));
            let skip = (number as usize - 1) * limit as usize;
            let expected: Vec<u64> = even.skip(skip).take(limit as usize).collect();
            let page = gathered(&query, &table, rows_max);
            // The first page is one that goes by cursor as well: it may end early, and says so.
            if number == 1 && page.next_cursor.is_some() {
                prop_assert_eq!(&page.items[..], &expected[..page.items.len()]);
            } else {
                prop_assert_eq!(page.items, expected);
            }
        }
    }

    #[test]
    fn a_look_is_bounded_and_a_page_that_found_nothing_goes_on() {
        let table: BTreeSet<u64> = (0..100).map(|number| 2 * number + 1).collect();
        let page = gathered(&ListQuery::default(), &table, 10);
        assert_eq!((page.items.len(), page.next_cursor.as_deref()), (0, Some("19")));
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
