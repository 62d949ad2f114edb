//! Objects in containers.
//!
//! | command | answers |
//! |---|---|
//! | `create C`, `exists C`, `remove C`, `clear C` | what became of the container |
//! | `put C O T`, `fill C O SIZE` | an object of a text, or of SIZE letters x, a stream of many writes |
//! | `half C O T`, `lost C T` | one that is never finished; one that goes nowhere |
//! | `get C O FROM TO` | bytes of it at once, both ends included |
//! | `read C O` | all of it as a stream: how many bytes, and how many of them are the letter x |
//! | `list C N`, `skip C N` | its names, N at a time, and the number of pages; how many were skipped and what follows |
//! | `has C O`, `size C O`, `delete C O` | what is known of it |
//! | `copy C O C P`, `move C O C P` | what became of it |

use super::{
    bindings::wasi::{
        blobstore::{
            blobstore::{self, ObjectId},
            container::Container,
            types::{IncomingValue, OutgoingValue},
        },
        io::streams::StreamError,
    },
    done, number,
};

pub(crate) fn answer(command: &[&str]) -> Result<String, String> {
    let id = |container: &str, object: &str| ObjectId { container: container.into(), object: object.into() };
    match *command {
        ["create", name] => blobstore::create_container(name)?.name(),
        ["exists", name] => blobstore::container_exists(name).map(|exists| exists.to_string()),
        ["remove", name] => blobstore::delete_container(name).map(done),
        ["clear", name] => open(name)?.clear().map(done),
        ["put", name, object, ref text @ ..] => put(&open(name)?, object, text.join(" ").as_bytes()).map(done),
        ["fill", name, object, size] => put(&open(name)?, object, &vec![b'x'; number(size)? as usize]).map(done),
        ["half", name, object, text] => {
            let value = OutgoingValue::new_outgoing_value();
            open(name)?.write_data(object, &value)?;
            write(&value, text.as_bytes()).map(done)
        }
        ["lost", text] => {
            let value = OutgoingValue::new_outgoing_value();
            write(&value, text.as_bytes())?;
            OutgoingValue::finish(value).map(done)
        }
        ["get", name, object, from, to] => {
            let value = open(name)?.get_data(object, number(from)?, number(to)?)?;
            let size = value.size();
            let content = IncomingValue::incoming_value_consume_sync(value)?;
            Ok(format!("{size} {}", String::from_utf8_lossy(&content)))
        }
        ["read", name, object] => read(open(name)?.get_data(object, 0, u64::MAX)?),
        ["list", name, count] => list(&open(name)?, number(count)?),
        ["skip", name, count] => {
            let names = open(name)?.list_objects()?;
            let (skipped, _) = names.skip_stream_object_names(number(count)?)?;
            let (next, _) = names.read_stream_object_names(1)?;
            Ok(format!("{skipped} {}", next.join(" ")))
        }
        ["has", name, object] => open(name)?.has_object(object).map(|has| has.to_string()),
        ["size", name, object] => {
            let info = open(name)?.object_info(object)?;
            Ok(format!("{}/{} {}", info.container, info.name, info.size))
        }
        ["delete", name, object] => open(name)?.delete_object(object).map(done),
        ["copy", name, object, other, copy] => blobstore::copy_object(&id(name, object), &id(other, copy)).map(done),
        ["move", name, object, other, moved] => blobstore::move_object(&id(name, object), &id(other, moved)).map(done),
        _ => Err("unknown command".into()),
    }
}

fn open(name: &str) -> Result<Container, String> {
    blobstore::get_container(name)
}

fn put(container: &Container, object: &str, content: &[u8]) -> Result<(), String> {
    let value = OutgoingValue::new_outgoing_value();
    container.write_data(object, &value)?;
    write(&value, content)?;
    OutgoingValue::finish(value)
}

fn write(value: &OutgoingValue, content: &[u8]) -> Result<(), String> {
    let stream = value.outgoing_value_write_body().map_err(|()| "no stream")?;
    content.chunks(4096).try_for_each(|part| stream.blocking_write_and_flush(part)).map_err(said)
}

fn said(error: StreamError) -> String {
    match error {
        StreamError::LastOperationFailed(error) => error.to_debug_string(),
        StreamError::Closed => "closed".into(),
    }
}

fn read(value: IncomingValue) -> Result<String, String> {
    let stream = IncomingValue::incoming_value_consume_async(value)?;
    let (mut bytes, mut letters) = (0, 0);
    loop {
        match stream.blocking_read(10_000) {
            Ok(part) => {
                bytes += part.len();
                letters += part.iter().filter(|&&byte| byte == b'x').count();
            }
            Err(StreamError::Closed) => return Ok(format!("{bytes} {letters}")),
            Err(error) => return Err(said(error)),
        }
    }
}

fn list(container: &Container, count: u64) -> Result<String, String> {
    let names = container.list_objects()?;
    let (mut all, mut pages) = (Vec::new(), 0);
    loop {
        let (page, is_end) = names.read_stream_object_names(count)?;
        all.extend(page);
        pages += 1;
        if is_end {
            return Ok(format!("{}/{pages}", all.join(" ")));
        }
    }
}
