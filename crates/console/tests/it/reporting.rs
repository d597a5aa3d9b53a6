//! What is asked of the ledger.

use console::reports::Filter;
use serde_json::json;

use crate::harness::Rig;

#[tokio::test]
async fn every_filter_arrives() {
    let rig = Rig::new();
    let query = "from=1000&to=2000&key=k&user=u&team=t&org=o&model=m&provider=p";
    rig.get(&format!("/admin/v1/usage?by=team&{query}")).await.ok();
    rig.get(&format!("/admin/v1/requests?{query}&limit=1")).await.ok();
    let text = |text: &str| Some(text.to_owned());
    let filter = Filter {
        key: text("k"),
        user: text("u"),
        team: text("t"),
        org: text("o"),
        model: text("m"),
        provider: text("p"),
        from_ms: 1000,
        to_ms: 2000,
    };
    assert_eq!(*rig.books.asked.lock().unwrap(), [filter.clone(), filter]);
}

#[tokio::test]
async fn times_have_bounds() {
    let rig = Rig::new();
    for wrong in ["from=2&to=1", "from=0&to=999999999999999", "from=-1", "to=now", "by=name", "by="]
    {
        rig.get(&format!("/admin/v1/usage?{wrong}")).await.fails(422, "invalid_field");
    }
    rig.get("/admin/v1/usage").await.ok();
    let asked = rig.books.asked.lock().unwrap();
    assert_eq!(asked[0].to_ms - asked[0].from_ms, 30 * 86_400_000);
}

#[tokio::test]
async fn a_request_by_its_id() {
    let rig = Rig::new();
    let found = rig.get("/admin/v1/requests/req_red").await.ok().json();
    assert_eq!((&found["team"], &found["tries"]), (&json!("red"), &json!([])));
    rig.get("/admin/v1/requests/req_none").await.fails(404, "not_found");
}
