//! No key, no token and no digest is ever answered or kept, but for the one answer that shows it.

use console::routes::Route;
use serde_json::{Value, json};

use crate::harness::{ENV, Rig, pepper};
use crate::matrix::{body, query, target};

/// Every form in which a digest could be written.
fn forms(text: &str) -> Vec<String> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let list = |bytes: &[u8]| bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(",");
    let sha256 = policy::key::sha256(text.as_bytes());
    let digest = pepper().digest(text.as_bytes());
    let mut forms = vec![text.to_owned(), text[4..text.len() - 6].to_owned()];
    for bytes in [&sha256, digest.as_bytes()] {
        forms.extend([hex(bytes), hex(bytes).to_uppercase(), list(&bytes[..8]), base64(bytes)]);
    }
    forms
}

fn base64(bytes: &[u8]) -> String {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<u8> = bytes.iter().flat_map(|b| (0..8).rev().map(move |i| b >> i & 1)).collect();
    let sixes = bits.chunks_exact(6).map(|six| six.iter().fold(0, |n, bit| n << 1 | bit));
    sixes.map(|six: u8| char::from(digits[usize::from(six)])).collect()
}

#[tokio::test]
async fn nothing_secret_comes_out_again() {
    let rig = Rig::new();
    rig.team("red").await;
    let mut secrets = vec![ENV.to_owned()];
    for role in ["owner", "admin", "auditor", "manager"] {
        secrets.push(rig.token(role).await);
    }
    for index in 0..4 {
        let made =
            rig.post("/admin/v1/keys", json!({ "name": format!("k{index}"), "team": "red" }));
        let made = made.await.ok();
        secrets.push(made.field("key"));
        let path = format!("/admin/v1/keys/{}/rotate", made.field("id"));
        secrets.push(rig.post(&path, json!({})).await.ok().field("key"));
    }
    let forms: Vec<String> = secrets.iter().flat_map(|secret| forms(secret)).collect();
    let tokens: Vec<String> = secrets.iter().take(5).cloned().collect();
    let clean = |place: &str, text: &str| {
        for form in &forms {
            assert!(!text.contains(form), "{form} in {place}: {text}");
        }
    };
    for token in &tokens {
        for route in Route::ALL {
            let path = route.path().replace("{id}", &target(&rig, *route).await);
            let path = path + query(*route);
            let reply = rig.call(token, route.method().as_str(), &path, body(*route)).await;
            clean(route.name(), &format!("{reply:?}"));
        }
    }
    // Nor does anything hold it but the columns for digests.
    let store = rig.intruder();
    let tables = ["keys", "groups", "audit", "admins", "digests"];
    for table in tables {
        let mut statement = store.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            for column in 0..columns {
                if let Ok(text) = row.get::<_, String>(column) {
                    clean(table, &text);
                }
            }
        }
    }
    for file in std::fs::read_dir(rig.dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for secret in &secrets {
            assert!(!text.contains(&secret[..20]), "{secret} in a file");
        }
    }
}

/// What runs is to mask the secrets of the configuration; should it forget one, this does not.
#[tokio::test]
async fn the_configuration_is_masked_again() {
    let rig = Rig::new();
    *rig.memory.config.lock().unwrap() = json!({
        "providers": { "xinghe": {
            "api_key": "sk-canary", "api_keys": ["sk-canary"], "base_url": "https://a",
            "headers": { "Authorization": "sk-canary", "x-token": "sk-canary" },
        }},
        "keys": [{ "name": "ci", "key": "sk-canary", "hash": "sha256:sk-canary", "models": ["chat"] }],
        "jwt": [{ "issuer": "https://i", "secret": "sk-canary", "jwks": { "keys": [{ "k": "x" }] } }],
        "text": "providers:\n  xinghe: { api_key: sk-canary }\n",
        "tls": { "certificate": "/a", "key": "/sk-canary" },
    });
    let reply = rig.get("/admin/v1/config").await.ok();
    assert!(!reply.text.contains("sk-canary"), "{}", reply.text);
    let config = reply.json();
    assert_eq!(config["providers"]["xinghe"]["base_url"], "https://a");
    assert_eq!(config["keys"][0]["name"], "ci");
    assert_eq!(config["keys"][0]["models"], json!(["chat"]));
    assert_eq!(config["jwt"][0]["issuer"], "https://i");
    assert_eq!(rig.get("/admin/v1/me").await.ok().json()["team"], Value::Null);
}
