//! What the template for Rust of Spin gives, on its SDK.

use spin_sdk::{
    http::{IntoResponse, Request, Response},
    http_component,
};

#[http_component]
fn handle(request: Request) -> Result<impl IntoResponse, std::convert::Infallible> {
    println!("handling {} {}", request.method(), request.path());
    Ok(Response::builder().status(200).header("content-type", "text/plain").body("Hello, Spin!").build())
}
