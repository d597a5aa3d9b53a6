//! The most that a request can use, by what it says of itself: nothing that it can say makes the
//! bound smaller than what a provider may bill.

use relay::Bound;

use crate::world::{LAB, World, chat, post};

fn world(limits: &str) -> World {
    let price = format!("prices: {{ lab/*: {{ input: \"1\", output: \"2\"{limits} }} }}\n");
    // A budget that refuses nothing: the most that the input can be is only worked out for budgets.
    let models = "    models: [small, large]\n";
    let budget = "    budget: { amount: $1000000, period: month, on_exhausted: alert }\n";
    let lab = LAB.replace(models, &[models, budget].concat());
    assert_ne!(lab, LAB);
    World::of(&[&lab, &price[..]].concat(), [])
}

/// The bound of a request with these fields.
async fn bound_at(path: &str, fields: &str, limits: &str) -> Bound {
    let world = world(limits);
    let body =
        format!(r#"{{"model":"chat","messages":[{{"role":"user","content":"hi"}}],{fields}}}"#);
    assert_eq!(world.ask(post(path, body)).await.status, 200, "{fields}");
    let opened = world.log.opened.borrow();
    assert_eq!(opened.len(), 1);
    opened[0].1
}

async fn bound(fields: &str) -> Bound {
    bound_at("/v1/chat/completions", fields, "").await
}

#[tokio::test(start_paused = true)]
async fn the_output_is_bounded_by_the_largest_field_and_every_answer_asked_for() {
    for (fields, most) in [
        (r#""x":1"#, None),
        (r#""max_tokens":100"#, Some(100)),
        (r#""max_completion_tokens":100"#, Some(100)),
        (r#""max_output_tokens":100"#, Some(100)),
        (r#""max_completion_tokens":1,"max_tokens":100"#, Some(100)),
        (r#""max_tokens":1,"max_completion_tokens":100"#, Some(100)),
        (r#""max_tokens":null,"max_completion_tokens":100"#, Some(100)),
        (r#""max_tokens":100,"n":7"#, Some(700)),
        (r#""max_tokens":100,"best_of":7"#, Some(700)),
        (r#""max_tokens":100,"n":2,"best_of":7"#, Some(700)),
        (r#""max_tokens":100,"n":0"#, Some(100)),
        (r#""max_tokens":100,"n":null"#, Some(100)),
        // What a provider may take for a number counts as one.
        (r#""max_tokens":1e2"#, Some(100)),
        (r#""max_tokens":99.5"#, Some(100)),
        (r#""max_tokens":"100""#, Some(100)),
        (r#""max_tokens":100,"n":7.0"#, Some(700)),
        (r#""max_tokens":100,"n":0.7e1"#, Some(700)),
        (r#""max_tokens":100,"n":" 7 ""#, Some(700)),
        (r#""max_tokens":100,"\u006e":7"#, Some(700)),
        // What bounds nothing is none.
        (r#""max_tokens":0"#, None),
        (r#""max_tokens":-1"#, None),
        (r#""max_tokens":{}"#, None),
        (r#""max_tokens":18446744073709551616"#, Some(u64::MAX)),
        (r#""max_tokens":1e400"#, Some(u64::MAX)),
        (r#""max_tokens":1e19,"n":1e19"#, Some(u64::MAX)),
    ] {
        assert_eq!(bound(fields).await.most_output, most, "{fields}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_is_reserved_than_a_model_can_give() {
    let limits = ", max_output: 4096, max_input: 30000";
    let path = "/v1/chat/completions";
    for (fields, most) in [
        (r#""x":1"#, 4096),
        (r#""max_tokens":999999999"#, 4096),
        (r#""max_tokens":999999999,"n":3"#, 3 * 4096),
        (r#""n":3"#, 3 * 4096),
        (r#""max_tokens":100"#, 100),
        (r#""max_tokens":-1"#, 4096),
    ] {
        assert_eq!(bound_at(path, fields, limits).await.most_output, Some(most), "{fields}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_prompt_of_a_list_is_answered() {
    for (prompt, most) in [
        (r#""hi""#, 10),
        (r#"["a"]"#, 10),
        (r#"[ "a", "b" , "c"]"#, 30),
        ("[1,2,3]", 10),
        ("[[1,2],[3]]", 20),
        ("[]", 10),
    ] {
        let fields = format!(r#""prompt":{prompt},"max_tokens":10"#);
        let bound = bound_at("/v1/completions", &fields, "").await;
        assert_eq!(bound.most_output, Some(most), "{prompt}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_input_is_never_more_than_its_bytes_unless_it_lies_elsewhere() {
    let plain = bound(r#""x":"y""#).await;
    assert!(plain.most_input >= 70 && plain.most_input < 250, "{plain:?}");
    assert!(plain.input > 0 && plain.input < plain.most_input);
    for (sign, elsewhere) in [
        (r#""x":{"type":"image_url","image_url":{"url":"https://x/y.png"}}"#, true),
        (r#""x":{"type":"video_url","video_url":{}}"#, true),
        (r#""x":{"type":"file","file":{"file_id":"f"}}"#, true),
        (r#""x":{"type":"input_image"}"#, true),
        (r#""tools":[{"type":"web_search"}]"#, true),
        (r#""enable_search":true"#, true),
        (r#""x":"fileid://file-1""#, true),
        (r#""x":{"type":"image\u005furl"}"#, true),
        (r#""x":{"type":"image_u\u0072l"}"#, true),
        // What encoders escape of their own accord hides nothing.
        (r#""x":"a\u003cb\u003e \u0026 \u002b \u0027 \u0060 \u005c \u00e9 \u007f""#, false),
        (r#""x":"an image, a file and a search""#, false),
    ] {
        let bound = bound(sign).await;
        assert_eq!(bound.most_input > 100_000, elsewhere, "{sign}: {bound:?}");
        let path = "/v1/chat/completions";
        let small = bound_at(path, sign, ", max_input: 30000").await;
        assert_eq!(small.most_input == 30_000, elsewhere, "{sign}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_embedding_has_no_output_and_what_is_not_understood_no_bound() {
    let bound = bound_at("/v1/embeddings", r#""input":"x""#, "").await;
    assert_eq!((bound.output, bound.most_output), (0, Some(0)));
    for path in ["/v1/responses", "/v1/images/generations"] {
        let bound = bound_at(path, r#""input":"x","max_output_tokens":5"#, "").await;
        assert_eq!(bound.most_output, None, "{path}");
        assert!(bound.most_input > 100_000);
    }
}

#[tokio::test(start_paused = true)]
async fn a_field_that_bounds_the_cost_may_not_stand_twice() {
    for name in ["n", "best_of", "max_tokens", "max_completion_tokens", "max_output_tokens"] {
        for fields in [format!(r#""{name}":1,"{name}":100"#), format!(r#""{name}":1,"{name}":1"#)] {
            let world = world("");
            let body = format!(r#"{{"model":"chat","messages":[1],{fields}}}"#);
            let (status, error) = world.ask(chat(body)).await.error().await;
            assert_eq!((status, error["code"].as_str()), (400, Some("duplicate_field")), "{name}");
            assert_eq!(error["param"], name);
            world.assert_refused("duplicate_field");
        }
    }
}

/// The bound of a chat about a model with these edits, of which 4096 tokens can come.
async fn bound_of_edited(edits: &str, fields: &str) -> Bound {
    let model = format!("chat: {{ target: lab/up-model, {edits} }}");
    let price = "prices: { lab/*: { input: \"1\", output: \"2\", max_output: 4096 } }\n";
    let budget =
        "    budget: { amount: $1000000, period: month, on_exhausted: alert }\n    models:";
    let lab = LAB.replace("chat: lab/up-model", &model).replace("    models:", budget);
    let world = World::of(&format!("{lab}{price}"), []);
    let body =
        format!(r#"{{"model":"chat","messages":[{{"role":"user","content":"hi"}}],{fields}}}"#);
    assert_eq!(world.ask(chat(body)).await.status, 200, "{edits} {fields}");
    world.log.opened.borrow()[0].1
}

#[tokio::test(start_paused = true)]
async fn what_the_owner_edits_bounds_what_is_sent() {
    for (edits, fields, most) in [
        ("force: { max_tokens: 2000 }", r#""x":1"#, 2000),
        ("force: { max_tokens: 2000 }", r#""max_tokens":1"#, 2000),
        ("force: { max_tokens: 10 }", r#""max_tokens":2000"#, 10),
        ("force: { max_tokens: 9999 }", r#""max_tokens":1"#, 4096),
        // The client's other name for it is still sent, and may be the one that counts.
        ("force: { max_tokens: 10 }", r#""max_completion_tokens":20"#, 20),
        ("defaults: { max_tokens: 2000 }", r#""x":1"#, 2000),
        ("defaults: { max_tokens: 2000 }", r#""max_tokens":7"#, 7),
        ("defaults: { max_tokens: 2000 }", r#""max_t\u006fkens":7"#, 7),
        ("defaults: { max_tokens: 2000 }", r#""max_tokens":null"#, 4096),
        ("drop: [max_tokens]", r#""max_tokens":7"#, 4096),
        ("drop: [max_tokens]", r#""max_tokens":7,"max_tokens":8"#, 4096),
        ("force: { n: 3 }", r#""max_tokens":7"#, 21),
        ("drop: [n]", r#""max_tokens":7,"n":3"#, 7),
        ("force: { prompt: [a, b, c] }", r#""max_tokens":7"#, 21),
    ] {
        let bound = bound_of_edited(edits, fields).await;
        assert_eq!(bound.most_output, Some(most), "{edits} {fields}");
    }
    let plain = bound_of_edited("force: { user: x }", r#""x":1"#).await;
    let long = format!("force: {{ user: {} }}", "x".repeat(1_001));
    let longer = bound_of_edited(&long, r#""x":1"#).await;
    assert_eq!(longer.most_input, plain.most_input + 1_000, "what is added is input too");
    let searches = bound_of_edited("force: { enable_search: true }", r#""x":1"#).await;
    assert!(searches.most_input > 100_000, "{searches:?}");
}
