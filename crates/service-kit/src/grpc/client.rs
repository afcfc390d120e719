//! The client side: one channel over all replicas of a part.

use super::GrpcError;
use crate::config::GrpcSection;
use serde::Deserialize;
use std::task::{Context, Poll};
use std::time::Duration;

/// Where the replicas of a part are: `https://host:port`, several separated by commas; every address a name resolves to is one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Endpoints(Vec<(String, u16)>);

/// A channel to all replicas of one part. Generated clients are `XClient<Channel>`. Clones share the connections.
#[derive(Clone)]
pub struct Channel {}

impl Channel {
    /// Connects when first used; the certificate at the other end must name `part`.
    pub fn new(_part: &'static str, _endpoints: &Endpoints, _section: &GrpcSection) -> Result<Self, GrpcError> {
        todo!()
    }

    /// To the local socket of a running process.
    pub fn unix(_path: impl Into<std::path::PathBuf>) -> Self {
        todo!()
    }
}

impl tower::Service<http::Request<tonic::body::Body>> for Channel {
    type Response = http::Response<tonic::body::Body>;
    type Error = tonic::Status;
    type Future = futures::future::BoxFuture<'static, Result<Self::Response, tonic::Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), tonic::Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: http::Request<tonic::body::Body>) -> Self::Future {
        todo!()
    }
}

/// Says that the call may be sent again to another replica when the first one broke off without an answer. Calls that never left are
/// sent again in any case.
pub fn idempotent<T>(_request: impl tonic::IntoRequest<T>) -> tonic::Request<T> {
    todo!()
}

/// Gives the call at most `left`; the other end knows it too and stops working when it has passed (V-44).
pub fn with_deadline<T>(request: impl tonic::IntoRequest<T>, left: Duration) -> tonic::Request<T> {
    let mut request = request.into_request();
    request.set_timeout(left);
    request
}

impl TryFrom<String> for Endpoints {
    type Error = String;
    fn try_from(_text: String) -> Result<Self, String> {
        todo!()
    }
}
