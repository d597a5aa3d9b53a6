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

#[tokio::test]
async fn an_experiment_is_told_with_the_sides_of_the_plan() {
    let rig = Rig::new();
    let file = "
providers: { up: { profile: sglang } }
models: { chat: { split: { up/old: 5, up/new: 95 }, sticky: user } }
";
    *rig.memory.plans.lock().unwrap() = Some(crate::harness::snapshot(file).into());
    let path = "/admin/v1/experiments?model=chat&from=1000&to=2000";
    let found = rig.get(path).await.ok().json();
    assert_eq!((&found["object"], &found["model"]), (&json!("experiment"), &json!("chat")));
    assert_eq!(
        (&found["from"], &found["to"], &found["alpha"]),
        (&json!(1000), &json!(2000), &json!(0.05))
    );
    let side = |at: usize, name: &str| found["variants"][at][name].clone();
    assert_eq!((side(0, "name"), side(0, "weight")), (json!("up/new"), json!(95)));
    assert_eq!((side(1, "targets"), side(1, "requests")), (json!(["up/old"]), json!(1)));
    assert_eq!((&found["elsewhere"], &found["warnings"]), (&json!(3), &json!([])));
    let asked = rig.books.asked.lock().unwrap().remove(0);
    assert_eq!((asked.model.as_deref(), asked.from_ms, asked.to_ms), (Some("chat"), 1000, 2000));

    // Of a model that is not split, it is said that nothing was drawn.
    let plain = rig.get("/admin/v1/experiments?model=echo").await.ok().json();
    assert!(plain["warnings"][0].as_str().unwrap().contains("no split"), "{plain}");
    for wrong in [
        "",
        "?model=chat&alpha=0",
        "?model=chat&alpha=0.6",
        "?model=chat&alpha=NaN",
        "?model=chat&from=2&to=1",
    ] {
        rig.get(&format!("/admin/v1/experiments{wrong}")).await.fails(422, "invalid_field");
    }
}
