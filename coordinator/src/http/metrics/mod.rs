//! What was measured of machines, hosts and regions: over time, and as it comes.
//!
//! Every member answers from what it has. A machine's metrics are for those who see it; those of hosts and of regions,
//! which are sums of hosts, for those who may see the hosts of the whole fleet.
//!
//! | module | holds |
//! |---|---|
//! | `show` | what is answered |
//! | `feed` | a stream under way |

mod feed;
mod show;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use novacron_protocol::access::{Permission, Scope};
use novacron_protocol::api::{Code, MetricHistory, MetricList, MetricView, Problem};
use novacron_protocol::ids::{NodeName, RegionCode};
use novacron_protocol::metric::{Metric, ResourceKind};
use novacron_protocol::time::Timestamp;
use schemars::JsonSchema;
use schemars::r#gen::SchemaGenerator;
use schemars::schema::Schema;
use serde::Deserialize;

use self::feed::Feed;
use super::answer::{Answer, Found, with_media_type};
use super::body::NoBody;
use super::events::form::{Form, LINES, SERVER_SENT};
use super::parameters::Nothing;
use super::route::{Call, HeaderParameter, Route, get};
use super::vms;
use crate::auth::{Sight, Where};
use crate::samples::Subject;
use crate::samples::level::Level;
use crate::samples::question::Question;
use crate::samples::table::Resource;
use crate::state::Fleet;
use crate::switches::Part;

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/v1/metrics", "getMetrics", "Show what was measured over time")
            .needs(Permission::VmRead, Where::Somewhere)
            .part_of(Part::Samples)
            .refuses(&[Code::NotFound])
            .to(show),
        get("/api/v1/metrics/definitions", "listMetrics", "List what is measured")
            .for_principals()
            .to(list),
        get("/api/v1/metrics/stream", "followMetrics", "Follow what is measured, as it comes")
            .needs(Permission::VmRead, Where::Somewhere)
            .part_of(Part::Samples)
            .refuses(&[Code::NotFound, Code::TooManyWatchers, Code::CursorUnknown])
            .takes(&[HeaderParameter {
                name: "Last-Event-ID",
                meaning: "Begin behind this answer: the last `id` of a stream. It counts more than `from`.",
            }])
            .to(follow),
    ]
}

/// Of what, which metrics, and when.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HistoryQuery {
    /// Of what: `vm:` and a name or id, `node:` and a name, or `region:` and a code.
    resource: String,
    /// Only this metric; may be repeated. All that the resource has unless said.
    #[serde(default)]
    metric: Vec<String>,
    /// From this moment on; an hour before the end unless said. Ten seconds are told apart for an hour, minutes for a day,
    /// quarters of an hour for 30 days.
    #[serde(default)]
    from: Option<Timestamp>,
    /// Up to this moment; now unless said.
    #[serde(default)]
    to: Option<Timestamp>,
    /// Seconds of each point: a multiple of 10, 60 or 900, as finely as is told apart then. The least with which there are
    /// at most 1,000 points, unless said.
    #[serde(default)]
    interval_s: Option<u64>,
}

/// Of what, which metrics, and how often.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FollowQuery {
    /// Of what: `vm:` and a name or id, `node:` and a name, or `region:` and a code.
    resource: String,
    /// Only this metric; may be repeated. All that the resource has unless said.
    #[serde(default)]
    metric: Vec<String>,
    /// Begin with what was measured from this moment on, within the last hour: the `to` of the last answer of a stream that
    /// broke off. Now unless said.
    #[serde(default)]
    from: Option<Timestamp>,
    /// Seconds from one answer to the next, and of each point: a multiple of 10, at most 900; 10 unless said.
    #[serde(default)]
    interval_s: Option<u64>,
}

async fn list(_: Call<Nothing, Nothing, NoBody>) -> Result<Found<MetricList>, Problem> {
    Ok(Found(MetricList { items: MetricView::all() }))
}

async fn show(call: Call<Nothing, HistoryQuery, NoBody>) -> Result<Found<MetricHistory>, Problem> {
    let HistoryQuery { resource, metric, from, to, interval_s } = &call.query;
    // Nobody judges this again: who asks has to be allowed to now.
    let subject = call.read(|fleet, sight| find(fleet, sight, resource)).await??;
    let metrics = metrics(metric, subject.resource.kind())?;
    let question = Question::new(*from, *to, *interval_s, call.api.now());
    let question = question.map_err(|error| {
        Problem::new(Code::InvalidRequest, error.to_string()).about(error.parameter())
    })?;
    show::history(&call.api.app.samples, subject, question, metrics).await.map(Found)
}

/// A stream of what is measured.
struct Following {
    form: Form,
    body: Body,
}

impl Answer for Following {
    const STATUS: StatusCode = StatusCode::OK;
    const MEANING: &'static str = "After each interval a line with what was measured in it, an empty line after ten seconds without one; Server-Sent Events for those who accept them. Whoever takes nothing for 30 seconds is cut off, and may go on from the last `to` that it got.";

    fn describe(generator: &mut SchemaGenerator) -> Vec<(&'static str, Schema)> {
        vec![
            (LINES, generator.subschema_for::<MetricHistory>()),
            (SERVER_SENT, generator.subschema_for::<MetricHistory>()),
        ]
    }

    fn into_response(self) -> Response {
        let mut response = with_media_type(self.form.media_type(), Response::new(self.body));
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

async fn follow(call: Call<Nothing, FollowQuery, NoBody>) -> Result<Following, Problem> {
    let FollowQuery { resource, metric, from, interval_s } = call.query.clone();
    let subject = call.read(|fleet, sight| find(fleet, sight, &resource)).await??;
    let kind = subject.resource.kind();
    let metrics = metrics(&metric, kind)?;
    let from = last_id(&call.headers)?.or(from);
    let (interval_s, from_s) = feed::beginning(interval_s, from, call.api.now())?;
    let form = Form::wanted(&call.headers).unwrap_or(Form::Lines);
    let grant = call.grant()?.clone();
    let feed = Feed { api: call.api, grant, resource, metrics, interval_s, from_s, form };
    Ok(Following { form, body: feed.open()? })
}

/// Behind which answer a reader wants to go on: its `id` is the end of its last interval.
fn last_id(headers: &HeaderMap) -> Result<Option<Timestamp>, Problem> {
    let Some(id) = headers.get("last-event-id") else { return Ok(None) };
    let moment = id.to_str().ok().and_then(|text| serde_json::from_value(text.trim().into()).ok());
    moment.map(Some).ok_or_else(|| {
        let detail = "Last-Event-ID: not an `id` of this stream; leave it out to begin now";
        Problem::new(Code::CursorUnknown, detail).about("Last-Event-ID")
    })
}

/// What is meant by a resource, if the caller may see it.
fn find(fleet: &Fleet, sight: &Sight<'_>, text: &str) -> Result<Subject, Problem> {
    let (kind, name) = text.split_once(':').unwrap_or_default();
    match kind {
        "vm" => {
            let resource = Resource::Vm(vms::find(fleet, sight, name)?.id);
            Ok(Subject { resource, hosts: Vec::new() })
        }
        "node" => {
            sight.check_other(Permission::NodeRead, Scope::Fleet)?;
            let node = name.parse::<NodeName>().ok().filter(|node| fleet.node(node).is_some());
            let node = node.ok_or_else(|| none("node", name))?;
            Ok(Subject { resource: Resource::Node(node), hosts: Vec::new() })
        }
        "region" => {
            sight.check_other(Permission::NodeRead, Scope::Fleet)?;
            let region = name.parse::<RegionCode>().ok();
            let region = region.filter(|region| fleet.region(region).is_some());
            let region = region.ok_or_else(|| none("region", name))?;
            let hosts = fleet.nodes().filter(|node| node.region.as_ref() == Some(&region));
            let hosts = hosts.map(|node| node.name.clone()).collect();
            Ok(Subject { resource: Resource::Region(region), hosts })
        }
        _ => {
            let right = "write `vm:` and a name or id, `node:` and a name, or `region:` and a code";
            Err(Problem::new(Code::InvalidRequest, format!("resource: {right}")).about("resource"))
        }
    }
}

fn none(kind: &str, name: &str) -> Problem {
    let name: String = name.chars().take(64).collect();
    Problem::new(Code::NotFound, format!("there is no {kind} `{name}`")).about("resource")
}

/// The metrics that are meant; all of a kind of resources if none is named.
fn metrics(words: &[String], kind: ResourceKind) -> Result<Vec<Metric>, Problem> {
    let all = || Metric::ALL.iter().copied().filter(|metric| metric.is_of(kind));
    let find = |word: &String| {
        let found = Metric::of_word(word).filter(|metric| metric.is_of(kind));
        found.ok_or_else(|| {
            let there: Vec<_> = all().map(Metric::word).collect();
            let text = format!("metric: a {} has {}", kind.word(), there.join(", "));
            Problem::new(Code::InvalidRequest, text).about("metric")
        })
    };
    let named: Vec<Metric> = words.iter().map(find).collect::<Result<_, _>>()?;
    Ok(if named.is_empty() { all().collect() } else { named })
}

/// The finest level.
const FINEST: Level = Level::Ticks;
