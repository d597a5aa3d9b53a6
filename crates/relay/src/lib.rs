//! The life of a request.
//!
//! Bytes become an [`Operation`]; its model gives it a route; the body is spliced for the provider
//! and sent; the answer streams back through a tap; and however it ends, its settlement records it
//! once. Read [`Relay::serve`] first: every step is one file.
//!
//! This crate knows no socket, no HTTP library and no provider by name: the network is the
//! [`Upstream`] it is given.

pub mod access;
mod admit;
mod attempt;
mod begin;
mod beside;
mod cause;
mod compose;
mod course;
mod estimate;
mod facts;
mod failover;
mod fault;
mod feedback;
mod flight;
mod flights;
mod gather;
mod headers;
mod hold;
mod identify;
mod intake;
mod latch;
mod mirror;
mod models;
mod other;
mod pass;
mod ports;
mod prepare;
mod queue;
mod reading;
mod record;
mod refuse;
mod reply;
mod request_id;
mod respond;
mod resume;
mod serve;
mod settle;
mod share;
mod tap;
mod upload;

pub use access::Visitor;
pub use admit::{Alert, Bound};
pub use fault::{Blame, Code, Fault, Language, Limited};
pub use feedback::Feedback;
pub use flights::Flights;
pub use identify::{Caller, Gate, TokenRefusal, Tokens};
pub use intake::{Endpoint, Operation, endpoint, wrong_method};
pub use latch::{Latch, Waiter};
pub use mirror::{Comparison, Half};
pub use ports::{
    BoxError, Call, Failure, FailureKind, Lasting, Noting, Outgoing, Recorder, Task, Tasks,
    Unnoted, Unrecorded, UploadFault, Upstream,
};
pub use record::{Outcome, Provenance, Record};
pub use reply::ReplyBody;
pub use request_id::RequestId;
pub use serve::{Relay, Request};
pub use settle::Settlement;
