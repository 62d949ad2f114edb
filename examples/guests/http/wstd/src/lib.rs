//! What the template for Rust of `wasmtime serve` gives, on wstd: one handler per path.

use wstd::{
    http::{Body, Request, Response, Result, StatusCode},
    time::{Duration, Instant},
};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>> {
    match request.uri().path() {
        "/" => Ok(Response::new("Hello, wasi:http/proxy world!\n".to_owned().into())),
        "/wait" => {
            let start = Instant::now();
            wstd::task::sleep(Duration::from_millis(10)).await;
            Ok(Response::new(format!("slept for {} ms\n", start.elapsed().as_millis()).into()))
        }
        "/echo" => Ok(Response::new(request.into_body())),
        _ => Ok(Response::builder().status(StatusCode::NOT_FOUND).body("not found\n".to_owned().into())?),
    }
}
