//! The description of the API, in OpenAPI 3.1, made from the routes and their types.

use std::any::TypeId;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::endpoint::{Endpoint, Nothing};
use crate::routes::Route;
use crate::table::{Role, Verdict, verdict};

/// Where descriptions of types stand, as OpenAPI has it.
const SCHEMAS: &str = "/components/schemas";

/// Gathers descriptions of types while routes are described.
pub(crate) struct Book {
    sent: SchemaGenerator,
    answered: SchemaGenerator,
}

impl Book {
    fn new() -> Self {
        let settings = || {
            let at = |settings: &mut SchemaSettings| settings.definitions_path = SCHEMAS.into();
            SchemaSettings::draft2020_12().with(at)
        };
        Self {
            sent: settings().for_deserialize().into_generator(),
            answered: settings().for_serialize().into_generator(),
        }
    }

    /// What goes in and out of a route.
    pub(crate) fn operation<E: Endpoint>(&mut self) -> Value {
        let route = E::ROUTE;
        let roles: Map<String, Value> = Role::ALL
            .iter()
            .map(|role| (role.as_str().into(), json!(verdict(route, *role))))
            .collect();
        let allowed = Role::ALL.iter().filter(|role| verdict(route, **role) != Verdict::Deny);
        let allowed: Vec<&str> = allowed.map(|role| role.as_str()).collect();
        let mut operation = json!({
            "operationId": route.name(),
            "summary": route.summary(),
            "description": format!("For the roles {}.", allowed.join(", ")),
            "x-magpie-roles": roles,
            "parameters": self.parameters::<E>(),
            "responses": {
                E::STATUS.as_str(): {
                    "description": "Done.",
                    "content": { E::MEDIA: {
                        "schema": self.answered.subschema_for::<E::Answer>(),
                    }},
                },
                "default": { "$ref": "#/components/responses/Error" },
            },
        });
        if TypeId::of::<E::Body>() != TypeId::of::<Nothing>() {
            operation["requestBody"] = json!({ "required": true, "content": { "application/json": {
                "schema": self.sent.subschema_for::<E::Body>(),
            }}});
        }
        operation
    }

    fn parameters<E: Endpoint>(&mut self) -> Vec<Value> {
        let mut parameters = Vec::new();
        if E::ROUTE.path().contains("{id}") {
            parameters.push(json!({
                "name": "id", "in": "path", "required": true, "schema": { "type": "string" },
            }));
        }
        let query = E::Query::json_schema(&mut self.sent);
        let required = query.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        let fields = query.get("properties").and_then(Value::as_object).cloned();
        for (name, schema) in fields.unwrap_or_default() {
            let required = required.iter().any(|field| *field == *name);
            parameters.push(json!({
                "name": name, "in": "query", "required": required, "schema": schema,
            }));
        }
        parameters
    }
}

/// The whole description.
#[must_use]
pub fn document() -> Value {
    let mut book = Book::new();
    let mut paths = Map::new();
    for route in Route::ALL {
        let path = paths.entry(route.path()).or_insert_with(|| Map::new().into());
        path[route.method().as_str().to_ascii_lowercase()] = route.describe(&mut book);
    }
    let mut schemas = book.sent.take_definitions(true);
    schemas.extend(book.answered.take_definitions(true));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Magpie admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Orgs, teams, users and keys, their limits and budgets, what they used, and who changed what.",
        },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": {
                "type": "http", "scheme": "bearer", "description": "An admin token, `mat-...`.",
            }},
            "responses": { "Error": {
                "description": "What went wrong, in the shape of OpenAI's errors.",
                "content": { "application/json": { "schema": {
                    "type": "object",
                    "properties": { "error": {
                        "type": "object",
                        "properties": {
                            "message": { "type": "string" },
                            "type": { "type": "string" },
                            "param": { "type": ["string", "null"] },
                            "code": { "type": "string" },
                        },
                    }},
                }}},
            }},
            "schemas": schemas,
        },
    })
}
