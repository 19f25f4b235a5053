//! The faces of the cache: gRPC for who wants images prepared, HTTP for who wants their bytes.

mod containers;
mod frames;
mod grpc;
mod http;
mod pace;
mod problem;
mod range;
mod reader;

pub(crate) use containers::Containers;
pub(crate) use grpc::Images;
pub(crate) use http::router;
pub(crate) use pace::Shares;
