//! Wrong tokens are counted by the address that sent them.

use std::net::IpAddr;
use std::time::Duration;

use axum::body::Body;
use console::door::Peer;
use http::{Request, header};

use crate::harness::{ENV, Reply, Rig};

const WRONG: &str = "mat-0000000000000000000000000000000000000000000";

async fn knock(rig: &Rig, from: &str, token: Option<&str>) -> Reply {
    let mut request = Request::builder().uri("/admin/v1/me").header(header::HOST, "127.0.0.1:8001");
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let peer = Peer(from.parse::<IpAddr>().unwrap());
    rig.send(request.extension(peer).body(Body::empty()).unwrap()).await
}

#[tokio::test(start_paused = true)]
async fn ten_wrong_tokens_shut_the_door_for_a_while_and_for_that_address_alone() {
    let rig = Rig::new();
    for _ in 0..50 {
        knock(&rig, "10.0.0.1", Some(ENV)).await.ok();
        knock(&rig, "10.0.0.1", None).await.fails(401, "invalid_admin_token");
    }
    for _ in 0..10 {
        knock(&rig, "10.0.0.1", Some(WRONG)).await.fails(401, "invalid_admin_token");
    }
    for token in [WRONG, ENV, "anything"] {
        let reply = knock(&rig, "10.0.0.1", Some(token)).await.fails(429, "too_many_attempts");
        let wait: u64 = reply.headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
        assert!((1..=6).contains(&wait), "{wait}");
        assert_eq!(reply.json()["error"]["type"], "rate_limit_error");
        assert_eq!(reply.headers[header::CACHE_CONTROL], "no-store");
    }
    knock(&rig, "10.0.0.2", Some(ENV)).await.ok();
    knock(&rig, "::ffff:10.0.0.1", Some(ENV)).await.fails(429, "too_many_attempts");

    // One more try in six seconds; those that were refused did not count.
    tokio::time::advance(Duration::from_secs(6)).await;
    knock(&rig, "10.0.0.1", Some(ENV)).await.ok();
    knock(&rig, "10.0.0.1", Some(WRONG)).await.fails(401, "invalid_admin_token");
    knock(&rig, "10.0.0.1", Some(ENV)).await.fails(429, "too_many_attempts");
    tokio::time::advance(Duration::from_secs(60)).await;
    for _ in 0..10 {
        knock(&rig, "10.0.0.1", Some(WRONG)).await.fails(401, "invalid_admin_token");
    }
    knock(&rig, "10.0.0.1", Some(WRONG)).await.fails(429, "too_many_attempts");
}

#[tokio::test(start_paused = true)]
async fn whoever_has_a_network_of_addresses_has_one_count() {
    let rig = Rig::new();
    for index in 0..10 {
        let from = format!("2001:db8:0:1::{index}");
        knock(&rig, &from, Some(WRONG)).await.fails(401, "invalid_admin_token");
    }
    knock(&rig, "2001:db8:0:1:ffff::", Some(ENV)).await.fails(429, "too_many_attempts");
    knock(&rig, "2001:db8:0:2::", Some(ENV)).await.ok();
}

/// Two headers, another scheme: none of it is a way around the count.
#[tokio::test(start_paused = true)]
async fn a_token_that_cannot_be_read_is_a_try() {
    let rig = Rig::new();
    for index in 0..11 {
        let scheme = if index % 2 == 0 { "Basic" } else { "Bearer" };
        let request = Request::builder()
            .uri("/admin/v1/nowhere")
            .header(header::HOST, "127.0.0.1:8001")
            .header(header::AUTHORIZATION, format!("{scheme} x"))
            .extension(Peer(IpAddr::from([10, 0, 0, 1])));
        let reply = rig.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(reply.status.as_u16(), if index < 10 { 401 } else { 429 }, "{index}");
    }
}
