//! The description holds every route, and holds together.

use console::routes::Route;
use serde_json::Value;

use crate::harness::Rig;

fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str));
            members.values().for_each(|member| references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[tokio::test]
async fn every_route_is_described() {
    let rig = Rig::new();
    let document = rig.get("/admin/v1/openapi.json").await.ok().json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut count = 0;
    for route in Route::ALL {
        let operation = &document["paths"][route.path()][route.method().as_str().to_lowercase()];
        assert_eq!(operation["operationId"], route.name());
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.contains_key("default") && responses.len() == 2, "{route:?}");
        count += 1;
    }
    let described: usize = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .map(|path| path.as_object().unwrap().len())
        .sum();
    assert_eq!(described, count);
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 20, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn bodies_and_queries_are_described() {
    let rig = Rig::new();
    let document = rig.get("/admin/v1/openapi.json").await.ok().json();
    let create = &document["paths"]["/admin/v1/keys"]["post"];
    let schema = &create["requestBody"]["content"]["application/json"]["schema"];
    let schema = document.pointer(&schema["$ref"].as_str().unwrap()[1..]).unwrap();
    assert_eq!(schema["required"], serde_json::json!(["name"]));
    assert_eq!(schema["additionalProperties"], false);
    for field in
        ["name", "user", "team", "org", "models", "limits", "budget", "expires", "metadata"]
    {
        assert!(schema["properties"][field].is_object(), "{field}: {schema}");
    }
    let list = document["paths"]["/admin/v1/keys"]["get"]["parameters"].as_array().unwrap();
    let names: Vec<&str> = list.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["after", "limit", "user", "team", "org", "revoked", "search"]);
}
