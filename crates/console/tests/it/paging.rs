//! Lists, page by page.

use serde_json::json;

use crate::harness::Rig;

/// Every item once, whatever the size of the pages, and whatever is added meanwhile.
#[tokio::test]
async fn every_item_once() {
    let rig = Rig::new();
    for index in 0..23 {
        rig.post("/admin/v1/keys", json!({ "name": format!("k{index}") })).await.ok();
        let id = format!("t{index:02}");
        rig.post("/admin/v1/teams", json!({ "id": id, "name": id })).await.ok();
        rig.post("/admin/v1/admins", json!({ "name": "a", "role": "auditor" })).await.ok();
    }
    for (path, descends) in [("keys", true), ("teams", false), ("admins", true), ("audit", true)] {
        for size in [1, 7, 23, 24, 200] {
            let (mut ids, mut next) = (Vec::new(), String::new());
            loop {
                let page =
                    rig.get(&format!("/admin/v1/{path}?limit={size}{next}")).await.ok().json();
                let data = page["data"].as_array().unwrap();
                assert!(data.len() <= size);
                let id = |item: &serde_json::Value| match &item["id"] {
                    serde_json::Value::String(id) => id.clone(),
                    _ => format!("{:05}", item["seq"].as_u64().unwrap()),
                };
                ids.extend(data.iter().map(id));
                match page["next"].as_str() {
                    Some(after) => next = format!("&after={after}"),
                    None => break,
                }
                assert_eq!(page["has_more"], true);
            }
            let mut sorted = ids.clone();
            sorted.sort();
            sorted.dedup();
            assert_eq!(sorted.len(), if path == "audit" { 69 } else { 23 }, "{path} {size}");
            if descends {
                sorted.reverse();
            }
            assert_eq!(ids, sorted, "{path} {size}");
        }
    }
}

#[tokio::test]
async fn filters() {
    let rig = Rig::new();
    rig.post("/admin/v1/orgs", json!({ "id": "o", "name": "o" })).await.ok();
    rig.post("/admin/v1/teams", json!({ "id": "t", "name": "Search Team", "org": "o" })).await.ok();
    rig.post("/admin/v1/users", json!({ "id": "u", "name": "u", "team": "t" })).await.ok();
    for owner in [json!({ "user": "u" }), json!({ "team": "t" }), json!({ "org": "o" }), json!({})]
    {
        let mut body = owner.clone();
        body["name"] = json!(format!("Key of {owner}"));
        rig.post("/admin/v1/keys", body).await.ok();
    }
    let revoked = rig.get("/admin/v1/keys?user=u").await.ok().json()["data"][0]["id"].clone();
    let path = format!("/admin/v1/keys/{}/revoke", revoked.as_str().unwrap());
    rig.post(&path, json!(null)).await.ok();
    for (path, count) in [
        ("keys", 4),
        ("keys?user=u", 1),
        ("keys?team=t", 1),
        ("keys?org=o", 1),
        ("keys?revoked=true", 1),
        ("keys?revoked=false", 3),
        ("keys?search=KEY", 4),
        ("keys?search=team", 1),
        ("keys?search=x", 0),
        ("teams?org=o", 1),
        ("teams?org=p", 0),
        ("teams?search=search+team", 1),
        ("users?team=t", 1),
        ("users?search=", 1),
    ] {
        let data = rig.get(&format!("/admin/v1/{path}")).await.ok().json();
        assert_eq!(data["data"].as_array().unwrap().len(), count, "{path}");
    }
    rig.get("/admin/v1/keys?revoked=1").await.fails(422, "invalid_field");
}
