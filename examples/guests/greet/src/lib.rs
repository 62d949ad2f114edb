//! Greets the name it is given: the smallest function written with the standard library.

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "greet" });
}

struct Greet;

impl bindings::Guest for Greet {
    fn greet(input: Vec<u8>) -> Result<Vec<u8>, String> {
        let name =
            str::from_utf8(&input).map_err(|error| format!("name: not UTF-8 at byte {}", error.valid_up_to()))?;
        Ok(format!("hello, {name}").into_bytes())
    }
}

bindings::export!(Greet with_types_in bindings);

#[cfg(test)]
mod tests {
    use super::{Greet, bindings::Guest};

    #[test]
    fn greets_by_name() {
        assert_eq!(Greet::greet("Zoë".into()), Ok("hello, Zoë".into()));
    }

    #[test]
    fn names_the_byte_that_is_not_utf8() {
        let error = Greet::greet(b"Zoe\xff".to_vec());
        assert_eq!(error, Err("name: not UTF-8 at byte 3".into()));
    }
}
