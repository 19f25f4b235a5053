//! The faces of the cache: gRPC for who wants images prepared, HTTP for who wants their bytes.

mod frames;
mod grpc;
mod http;
mod range;

pub(crate) use grpc::Images;
pub(crate) use http::router;
