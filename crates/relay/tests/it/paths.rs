//! Paths: one normal form, and nothing that two readers might understand differently.

use http::Method;
use relay::{Code, Operation, endpoint};

use crate::world::{World, get, post, with_header};

fn read(path: &str) -> Result<(Operation, String), Code> {
    let method = match endpoint(&Method::GET, path) {
        Err(fault) if fault.code == Code::WrongMethod => Method::POST,
        _ => Method::GET,
    };
    endpoint(&method, path)
        .map(|endpoint| (endpoint.operation, endpoint.rest))
        .map_err(|fault| fault.code)
}

#[test]
fn paths_are_read_in_their_normal_form() {
    for (path, operation, rest) in [
        ("/v1/chat/completions", Operation::Chat, "/chat/completions"),
        ("/v1/chat/completions/", Operation::Chat, "/chat/completions"),
        ("//v1//chat///completions", Operation::Chat, "/chat/completions"),
        ("/v1//completions", Operation::Completion, "/completions"),
        ("/v1/embeddings", Operation::Embedding, "/embeddings"),
        ("/v1/models", Operation::Models, "/models"),
        ("/v1/models/", Operation::Models, "/models"),
        ("//v1//models", Operation::Models, "/models"),
        ("/v1/models/gpt-4o", Operation::Models, "/models/gpt-4o"),
        ("/v1//models//gpt-4o", Operation::Models, "/models/gpt-4o"),
        ("/v1/models/lab/a/b", Operation::Models, "/models/lab/a/b"),
        ("/v1/models/lab%2Fa%2fb", Operation::Models, "/models/lab/a/b"),
        ("/v1/models/%E4%BD%A0%20%25", Operation::Models, "/models/你 %"),
        ("/v1/models/50%", Operation::Models, "/models/50%"),
        ("/v1/feedback", Operation::Feedback, "/feedback"),
        ("/v1//feedback/", Operation::Feedback, "/feedback"),
        ("/v1/feedback/x", Operation::Other, "/feedback/x"),
        ("/v1/images/generations", Operation::Image, "/images/generations"),
        ("/v1/chat/completions/x", Operation::Other, "/chat/completions/x"),
        ("/v1/Chat/Completions", Operation::Other, "/Chat/Completions"),
        ("/v1/files/a%20b", Operation::File, "/files/a%20b"),
        ("/v1/files/...", Operation::File, "/files/..."),
        ("/v1/v1/chat/completions", Operation::Other, "/v1/chat/completions"),
    ] {
        assert_eq!(read(path), Ok((operation, rest.to_owned())), "{path}");
    }
}

#[test]
fn paths_with_ambiguous_parts_are_refused() {
    for path in [
        "/v1/files/../../admin",
        "/v1/./files",
        "/v1/files/..",
        "/../v1/files",
        "/v1/files/%2e%2e/x",
        "/v1/files/%2E",
        "/v1/files%2Fx",
        "/v1%2ffiles",
        "/v1/files\\x",
        "/v1/files/%5c..",
        "/v1/files/%5C",
        "/v1/files/%00",
        "/v1/files/%252e",
        "/v1/files/%",
        "/v1/files/%2",
        "/v1/files/%zz",
        "/v1/files/a b",
        "/v1/files/\t",
        "/v1/files/\u{7f}",
    ] {
        assert_eq!(read(path), Err(Code::InvalidPath), "{path:?}");
    }
}

#[test]
fn paths_outside_of_the_api_are_unknown() {
    for path in ["/", "", "/v1", "/v1/", "/v2/models", "/v1x/models", "/V1/models", "/models", "*"]
    {
        assert_eq!(read(path), Err(Code::UnknownPath), "{path:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_ambiguous_path_reaches_no_provider() {
    for path in ["/v1/files/../x", "/v1/files%2Fx", "/v1/%5Cx"] {
        for request in [get(path), post(path, "{}")] {
            let request = with_header(request, "x-magpie-provider", "lab");
            let world = World::lab([]);
            let (status, error) = world.ask(request).await.error().await;
            assert_eq!((status, error["code"].as_str()), (400, Some("invalid_path")));
            assert!(error["message"].as_str().unwrap().starts_with("The path holds"), "{error}");
            world.assert_refused("invalid_path");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_doubled_slash_is_one() {
    for path in ["//v1//chat/completions", "/v1//chat//completions"] {
        let world = World::lab([]);
        let answer = world.ask(post(path, crate::world::ASK)).await;
        assert_eq!(answer.status, 200);
        assert_eq!(world.upstream.call().target, "/api/v1/chat/completions");
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_name_is_never_forwarded_as_a_path() {
    for path in [
        "/v1/models/..%2f..%2fadmin",
        "/v1/models/..%2F..%2Fadmin%3Fx=1",
        "/v1/models/%2e%2e/%2e%2e/admin",
    ] {
        let request = with_header(get(path), "x-magpie-provider", "lab");
        let world = World::lab([]);
        world.ask(request).await.read().await;
        for call in world.upstream.calls() {
            assert!(!call.target.contains(".."), "{path} became {}", call.target);
            assert!(!call.target.contains('?'), "{path} became {}", call.target);
        }
    }
}
