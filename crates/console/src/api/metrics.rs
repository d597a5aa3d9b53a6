//! The numbers for Prometheus. Who may read them is decided at the door like everything else; the
//! configuration may open them to everyone, or to a token that is good for nothing else.

use crate::endpoint::{Call, Endpoint, Nothing};
use crate::fault::{Code, Fault};
use crate::live::Exposed;
use crate::routes::at;

impl Endpoint for at::Metrics {
    type Query = Nothing;
    type Body = Nothing;
    type Answer = Exposed;
    const MEDIA: &'static str = "text/plain";

    fn run(call: Call<Self>) -> Result<Self::Answer, Fault> {
        let told = call.desk.inner.live.metrics(&call.accept);
        told.ok_or_else(|| Fault::new(Code::Failed, "Nothing runs here that is counted."))
    }

    fn write(answer: Self::Answer) -> Result<(&'static str, Vec<u8>), Fault> {
        Ok((answer.media, answer.text.into_bytes()))
    }
}
