//! The result of a stateful call as it is stored with its effect, for a retry.

use scf_core::{MediaType, Payload};

/// What a stored result begins with that says its media type. A result that begins like this itself is stored with
/// its type too, so that there is one way to read each.
const TYPED: &[u8; 16] = b"\0scf/result+type";

/// What to store: the bytes as they are where `declared`, the function's type, says what they are.
pub(super) fn store(payload: &Payload, declared: &MediaType) -> bytes::Bytes {
    let is_known = payload.media == *declared || *declared != MediaType::OCTETS;
    if is_known && !payload.bytes.starts_with(TYPED) {
        return payload.bytes.clone();
    }
    let media = payload.media.to_string();
    let length = u32::try_from(media.len()).unwrap_or(0);
    let media = &media[..length as usize];
    [&TYPED[..], &length.to_le_bytes(), media.as_bytes(), &payload.bytes].concat().into()
}

/// The result that was stored.
pub(super) fn read(stored: &bytes::Bytes) -> Payload {
    let typed = || {
        let (length, rest) = stored.strip_prefix(TYPED)?.split_first_chunk::<4>()?;
        let (media, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        let media = MediaType::new(str::from_utf8(media).ok()?.to_owned());
        Some(Payload::new(stored.slice_ref(rest)).with_media(media))
    };
    typed().unwrap_or_else(|| Payload::new(stored.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_with_its_type_and_bytes_take_no_copy() {
        let json = Payload::new("{}").with_media(MediaType::JSON);
        assert_eq!(read(&store(&json, &MediaType::OCTETS)), json);
        for bytes in [&b""[..], b"plain", TYPED, b"\0scf/result+type\xff\xff\xff\xff", b"\0scf"] {
            let plain = Payload::new(bytes.to_vec());
            assert_eq!(read(&store(&plain, &MediaType::OCTETS)), plain);
        }
        let plain = Payload::new(vec![7; 100]);
        assert_eq!(store(&plain, &MediaType::OCTETS).as_ptr(), plain.bytes.as_ptr());
        assert_eq!(store(&json, &MediaType::JSON), json.bytes);
    }
}
