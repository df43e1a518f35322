//! Snapshots over the API, with a node whose agent does what it is told.

use novacron_protocol::time::Timestamp;
use novacron_transport::Role;
use serde_json::{Value, json};

use crate::https::Https;
use crate::member::Member;

const ALL: &str = "/api/v1/vms/web/snapshots";

/// A stopped machine on `node-01`.
async fn fleet() -> (Member, Https) {
    let member = Member::start().await;
    member.join_node("node-01", 8 << 30).await;
    member.join_node("node-02", 8 << 30).await;
    let admin = member.client(Role::Operator);
    let body = json!({
        "name": "web", "node": "node-01", "memory": 16 << 20, "disk": 1 << 20, "start": false,
    });
    let made = admin.post("/api/v1/vms", &body.to_string()).await;
    assert_eq!(made.status, 201, "{made:?}");
    member.settle("node-01").await;
    (member, admin)
}

async fn take(member: &Member, admin: &Https, name: &str) -> Value {
    let taken = admin.post(ALL, &json!({ "name": name }).to_string()).await;
    assert_eq!((taken.status, &taken.json()["state"]), (202, &json!("creating")), "{taken:?}");
    member.settle("node-01").await;
    admin.get(&format!("{ALL}/{name}")).await.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_taken_listed_restored_and_deleted() {
    let (member, admin) = fleet().await;
    let one = take(&member, &admin, "one").await;
    assert_eq!((&one["state"], &one["is_current"]), (&json!("ready"), &json!(true)));
    let two = take(&member, &admin, "two").await;
    assert_eq!(two["parent"], "one");
    let page = admin.get(&format!("{ALL}?limit=1")).await.json();
    assert_eq!(page["items"][0]["name"], "one");
    let rest = admin.get(&format!("{ALL}?cursor={}", page["next_cursor"].as_str().unwrap())).await;
    assert_eq!(rest.json()["items"][0], two);

    let restored = admin.post(&format!("{ALL}/one/restore"), "").await;
    assert_eq!((restored.status, &restored.json()["state"]), (202, &json!("restoring")));
    let started = admin.post("/api/v1/vms/web/start", "").await;
    assert_eq!(started.problem().1, "conflict");
    member.settle("node-01").await;
    assert_eq!(admin.get(&format!("{ALL}/one")).await.json()["is_current"], true);

    let needed = admin.send("DELETE", &format!("{ALL}/one"), &[], b"").await;
    assert_eq!((needed.status, needed.problem().1.as_str()), (409, "snapshot_needed"));
    let moved =
        admin.post("/api/v1/vms/web/migrate", r#"{"target":"node-02","mode":"cold"}"#).await;
    assert_eq!((moved.status, moved.problem().1.as_str()), (409, "has_snapshots"));
    for name in ["two", "one"] {
        let path = format!("{ALL}/{name}");
        assert_eq!(admin.send("DELETE", &path, &[], b"").await.status, 202);
        member.settle("node-01").await;
        assert_eq!(admin.get(&path).await.problem().1, "not_found");
    }
    let audit = admin.get("/api/v1/audit?action=snapshot").await.json();
    assert_eq!(audit["items"][0]["action"], "snapshot.delete");
    assert_eq!(audit["items"].as_array().unwrap().len(), 6);
}

/// As with machines: a delete is asked for as often as a client likes.
#[tokio::test(flavor = "multi_thread")]
async fn a_delete_that_is_repeated_is_answered_as_before() {
    let (member, admin) = fleet().await;
    let one = take(&member, &admin, "one").await;
    let path = format!("{ALL}/one");
    let key = [("idempotency-key", "0193c1a5-5e4e-7b8f-9d0a-0d3b9f1c2e11")];
    let delete = async |headers: &[(&str, &str)]| {
        let answer = admin.send("DELETE", &path, headers, b"").await;
        (answer.status, answer.json())
    };
    for headers in [&key[..], &key, &[]] {
        let (status, shown) = delete(headers).await;
        assert_eq!((status, &shown["state"]), (202, &json!("deleting")), "{shown}");
    }
    member.settle("node-01").await;
    assert_eq!(admin.get(&path).await.status, 404);
    let (status, shown) = delete(&key).await;
    assert_eq!((status, &shown["state"], &shown["id"]), (202, &json!("deleted"), &one["id"]));
    // Its id says it: a moment before the leader wrote down its own time.
    let [shown_at, made_at] = [&shown, &one].map(|snapshot| {
        serde_json::from_value::<Timestamp>(snapshot["created_at"].clone()).unwrap().unix_ms
    });
    assert!(shown_at <= made_at && made_at - shown_at < 10_000, "{shown_at} {made_at}");
    assert_eq!(delete(&[]).await.0, 404, "without the key it asks for what is not there");
    // Another one has the name now, and is not what the request was about.
    take(&member, &admin, "one").await;
    assert_eq!(delete(&key).await.1["id"], one["id"]);
    assert_eq!(admin.get(&path).await.json()["state"], "ready");

    let machine = async |headers: &[(&str, &str)]| {
        admin.send("DELETE", "/api/v1/vms/web", headers, b"").await.status
    };
    let key = [("idempotency-key", "0193c1a5-5e4e-7b8f-9d0a-0d3b9f1c2e12")];
    assert_eq!([machine(&key).await, machine(&[]).await], [202, 202]);
    member.settle("node-01").await;
    assert_eq!([machine(&key).await, machine(&[]).await], [202, 404]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_snapshot_is_named() {
    let (member, admin) = fleet().await;
    for (body, field) in [
        (r#"{"name":"Not Good"}"#, "name"),
        (r#"{"name":"a","memory":true}"#, "memory"),
        ("{}", "name"),
    ] {
        let wanted = (400, "invalid_request".to_owned(), Some(field.to_owned()));
        assert_eq!(admin.post(ALL, body).await.problem(), wanted, "{body}");
    }
    take(&member, &admin, "one").await;
    assert_eq!(admin.post(ALL, r#"{"name":"one"}"#).await.problem().1, "name_taken");
    let quota = r#"{"quotas":{"snapshots":1}}"#;
    let changed = admin.post("/api/v1/projects/default/settings", quota).await.json();
    assert_eq!(
        (&changed["quotas"]["snapshots"], &changed["usage"]["snapshots"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(admin.post(ALL, r#"{"name":"two"}"#).await.problem().1, "quota_exceeded");
    let nothing = admin.post(&format!("{ALL}/never/restore"), "").await;
    assert_eq!(nothing.problem().1, "not_found");
}
