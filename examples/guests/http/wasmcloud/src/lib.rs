//! What the template for Rust of wasmCloud gives, on its crate.

use wasmcloud_component::http;

struct Component;

http::export!(Component);

impl http::Server for Component {
    fn handle(_: http::IncomingRequest) -> http::Result<http::Response<impl http::OutgoingBody>> {
        Ok(http::Response::new("Hello from wasmCloud!\n"))
    }
}
