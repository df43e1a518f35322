//! Reads that may be behind: a caller that would rather have an old answer than none, or a quick one, says so, and is told
//! how old it can be.

use std::time::Duration;

use axum::response::Response;
use http::{HeaderName, HeaderValue};
use novacron_protocol::api::{Code, Problem};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::answer::Header;
use crate::view::View;

/// The parameter that says how fresh an answer has to be.
const CONSISTENCY: &str = "consistency";

/// The parameter that says how old a stale one may be.
const MAX_STALE_MS: &str = "max_stale_ms";

/// Where a stale answer says how old it can be.
const STALE_MS: HeaderName = HeaderName::from_static("x-stale-ms");

/// What the description says of it.
pub(super) const HEADER: Header = Header {
    name: "X-Stale-Ms",
    meaning: "With `consistency=stale`: everything is shown that was acknowledged before so many milliseconds ago. \
        `unknown` if this member has not heard of a leader since it started.",
};

/// How fresh an answer has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consistency {
    /// It shows everything that was acknowledged before the request began.
    Linearizable,
    /// What the member has that answers will do.
    Stale(Bound),
}

/// How old a stale answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bound {
    max: Option<Duration>,
}

/// Since when a stale answer may miss something; none if that is not known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stale {
    known_at: Option<Instant>,
}

impl Consistency {
    /// What a query says, taken out of it.
    pub(super) fn take_from(pairs: &mut Vec<(String, String)>) -> Result<Self, Problem> {
        let consistency = take(pairs, CONSISTENCY)?;
        let max = take(pairs, MAX_STALE_MS)?;
        let is_stale = match consistency.as_deref() {
            None | Some("linearizable") => false,
            Some("stale") => true,
            Some(_) => return Err(invalid(CONSISTENCY, "`linearizable` or `stale`")),
        };
        match (is_stale, max) {
            (false, None) => Ok(Self::Linearizable),
            (false, Some(_)) => Err(invalid(MAX_STALE_MS, "it goes with `consistency=stale`")),
            (true, None) => Ok(Self::Stale(Bound { max: None })),
            (true, Some(text)) => {
                let parsed = text.parse().map(Duration::from_millis);
                let max = parsed.map_err(|_| invalid(MAX_STALE_MS, "a number of milliseconds"))?;
                Ok(Self::Stale(Bound { max: Some(max) }))
            }
        }
    }
}

fn take(pairs: &mut Vec<(String, String)>, name: &str) -> Result<Option<String>, Problem> {
    let mut texts: Vec<String> =
        pairs.extract_if(.., |(given, _)| given == name).map(|(_, text)| text).collect();
    if texts.len() > 1 {
        return Err(invalid(name, "given more than once"));
    }
    Ok(texts.pop())
}

fn invalid(field: &str, problem: &str) -> Problem {
    Problem::new(Code::InvalidRequest, format!("{field}: {problem}")).about(field)
}

impl Bound {
    /// Since when what a member has may miss something, if it is within the bound.
    pub(super) fn check(self, view: &View) -> Result<Stale, Problem> {
        let known_at = view.known_at();
        let Some(max) = self.max else { return Ok(Stale { known_at }) };
        let age = known_at.map(|at| at.elapsed());
        if age.is_some_and(|age| age <= max) {
            return Ok(Stale { known_at });
        }
        let age = match age {
            Some(age) => format!("may be {} ms old", age.as_millis()),
            None => "is of an age that nobody knows".to_owned(),
        };
        let detail = format!(
            "{MAX_STALE_MS}: what this coordinator has {age}, more than {} ms; ask another one",
            max.as_millis()
        );
        Err(Problem::new(Code::TooStale, detail).about(MAX_STALE_MS))
    }
}

/// An answer that says how old it can be, if that is not now.
pub(super) fn marked(mut response: Response, stale: Option<Stale>) -> Response {
    let Some(Stale { known_at }) = stale else { return response };
    let value = match known_at {
        // One more than the whole ones: it is a bound.
        Some(at) => {
            let ms = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
            HeaderValue::from(ms.saturating_add(1))
        }
        None => HeaderValue::from_static("unknown"),
    };
    response.headers_mut().insert(STALE_MS, value);
    response
}

/// The parameters as the description shows them.
pub(super) fn described() -> [Value; 2] {
    let parameter = |name: &str, description: &str, schema: Value| {
        json!({
            "name": name,
            "in": "query",
            "required": false,
            "description": description,
            "schema": schema,
        })
    };
    [
        parameter(
            CONSISTENCY,
            "`linearizable`, unless said: everything is shown that was acknowledged before. `stale`: what the coordinator \
             has that answers, also without a quorum; X-Stale-Ms says how old that can be.",
            json!({ "type": "string", "enum": ["linearizable", "stale"] }),
        ),
        parameter(
            MAX_STALE_MS,
            "With `consistency=stale`: refuse what may be older than so many milliseconds.",
            json!({ "type": "integer", "format": "uint64", "minimum": 0 }),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(query: &[(&str, &str)]) -> Result<(Consistency, usize), Option<String>> {
        let pair = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        let mut pairs: Vec<_> = query.iter().map(pair).collect();
        let consistency = Consistency::take_from(&mut pairs).map_err(|problem| problem.field)?;
        Ok((consistency, pairs.len()))
    }

    #[test]
    fn a_query_says_how_fresh_an_answer_has_to_be() {
        let bound = |max| Consistency::Stale(Bound { max });
        assert_eq!(taken(&[("limit", "1")]), Ok((Consistency::Linearizable, 1)));
        assert_eq!(taken(&[("consistency", "linearizable")]), Ok((Consistency::Linearizable, 0)));
        assert_eq!(taken(&[("consistency", "stale"), ("limit", "1")]), Ok((bound(None), 1)));
        let query = [("max_stale_ms", "20"), ("consistency", "stale")];
        assert_eq!(taken(&query), Ok((bound(Some(Duration::from_millis(20))), 0)));
    }

    #[test]
    fn what_it_cannot_say_is_named() {
        for (query, field) in [
            (&[("consistency", "old")][..], "consistency"),
            (&[("consistency", "stale"), ("consistency", "stale")], "consistency"),
            (&[("max_stale_ms", "1")], "max_stale_ms"),
            (&[("consistency", "stale"), ("max_stale_ms", "-1")], "max_stale_ms"),
        ] {
            assert_eq!(taken(query), Err(Some(field.to_owned())), "{query:?}");
        }
    }
}
