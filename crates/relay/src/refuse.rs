//! Requests that are not let in: refused and recorded, with nothing read but their head.

use std::rc::Rc;

use http::Response;

use crate::fault::{Fault, Language};
use crate::intake::{self, Operation};
use crate::ports::Upstream;
use crate::record::Outcome;
use crate::reply::ReplyBody;
use crate::respond::{REQUEST_ID, json};
use crate::serve::{Relay, Request};
use crate::settle::Settlement;

impl<U: Upstream> Relay<U> {
    /// Refuses a request whatever it asks for, and records that. Who calls is not looked at.
    pub fn refuse<B>(&self, request: &Request<B>, fault: &Fault) -> Response<ReplyBody<U::Body>> {
        let Request { id, parts, start, .. } = request;
        let endpoint = intake::endpoint(&parts.method, parts.uri.path());
        let operation = endpoint.map_or(Operation::Other, |endpoint| endpoint.operation);
        let since = start.saturating_duration_since(self.callers().gate.epoch);
        let since = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let recorder = Rc::clone(self.recorder());
        let mut settlement = Settlement::open(*id, operation, id.time(), *start, since, recorder);
        let status = fault.code.status();
        settlement.note(|record| {
            record.fault = Some(fault.code.name());
            record.status = status.as_u16();
        });
        settlement.close(Outcome::Refused);
        let mut response = json(status, fault.to_json(Language::of(&parts.headers)));
        fault.stamp(response.headers_mut());
        response.headers_mut().insert(REQUEST_ID, id.to_header());
        response
    }
}
