//! Reads that grow with the fleet wait for each other, and for nobody else.

use novacron_coordinator::clock::Clock;
use novacron_transport::Role;

use crate::limits::{assert_has_to_wait, tenant};
use crate::member::Member;

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_the_whole_fleet_all_the_time_waits_for_itself() {
    let limits = "[limits]\nscan_wait_ms_max = 100";
    let member = Member::start_configured(Clock::system(), limits).await;
    let (bearer, client) = (tenant(&member).await, member.anonymous());
    let own = [("authorization", bearer.as_str())];
    let scanning = member.app().admission.scan(&"busy".parse().unwrap()).await.unwrap();
    let scans = [
        "/api/v1/overview",
        "/api/v1/vms?page=2",
        "/api/v1/vms?text=web",
        "/api/v1/events?page=1",
        "/api/v1/migrations?page=2",
    ];
    for path in scans {
        let answer = client.send("GET", path, &own, b"").await;
        assert_has_to_wait(&answer, "too_many_at_once");
        assert_eq!(member.client(Role::Operator).get(path).await.status, 200, "{path}");
    }
    for path in ["/api/v1/vms", "/api/v1/vms?project=default", "/api/v1/events", "/api/v1/whoami"] {
        assert_eq!(client.send("GET", path, &own, b"").await.status, 200, "{path}");
    }
    drop(scanning);
    for path in scans {
        assert_eq!(client.send("GET", path, &own, b"").await.status, 200, "{path}");
    }
    member.stop().await;
}
