//! Photos as the files that they are, as the input of a network.

use photo::Photo;
use scf_ai::{Device, EfficientNetLite, behind_jpeg, jpeg_input};
use scf_core::{Activation, BlockGraph, ByteSize, ModelError, ModelName};

#[expect(dead_code, reason = "photos are taken whole here")]
mod photo;

const LARGEST: ByteSize = ByteSize::from_kib(256);

fn networks() -> (BlockGraph, BlockGraph) {
    let path = format!("{}/../examples/assets/efficientnet-lite0.safetensors", env!("CARGO_MANIFEST_DIR"));
    let pixels = EfficientNetLite::Lite0.load(&std::fs::read(path).unwrap(), Device::Cpu).unwrap();
    let photos = behind_jpeg(&pixels, ModelName::new("lite0-jpeg").unwrap(), LARGEST).unwrap();
    (pixels, photos)
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/../examples/assets/photos/{name}.jpg", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn floats(activation: &Activation) -> Vec<f32> {
    activation.bytes().unwrap().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

#[test]
fn a_photo_as_a_file_is_the_picture_of_its_centre_square() {
    let (pixels, photos) = networks();
    for name in ["chelsea", "coffee", "rocket"] {
        let photo = Photo::load(name);
        let (side, to) = (photo.width.min(photo.height), pixels.input.shape[1]);
        let square = photo.crop((photo.width - side) / 2, (photo.height - side) / 2, side, to);
        let picture = Activation::new(pixels.input.clone(), square.into()).unwrap();
        let decoded = photos.run(0..1, jpeg_input(&photos, &file(name)).unwrap()).unwrap();
        assert_eq!(decoded.spec, picture.spec);
        let off = floats(&decoded).iter().zip(floats(&picture)).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(off <= 1e-5, "{name} is off by {off}");
    }
}

#[test]
fn what_is_no_photo_or_too_large_is_an_error_of_the_block() {
    let (_, photos) = networks();
    let photo = file("chelsea");
    // The frame says 65,535 pixels each way, of which the samples would take 12 GiB.
    let mut vast = photo.clone();
    let frame = vast.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    vast[frame + 5..frame + 9].fill(0xff);
    for bytes in [&b""[..], b"no photo", &photo[..200], &vast] {
        let error = photos.run(0..1, jpeg_input(&photos, bytes).unwrap()).unwrap_err();
        assert!(matches!(&error, ModelError::Block { block, .. } if block == "jpeg"), "{error}");
    }
    assert!(jpeg_input(&photos, &vec![0; 1 << 20]).is_none(), "larger than the network takes");
}

#[test]
fn a_network_of_anything_but_pictures_is_refused() {
    let (_, photos) = networks();
    let error = behind_jpeg(&photos, ModelName::new("twice").unwrap(), LARGEST).unwrap_err();
    assert!(matches!(error, ModelError::Shape { .. }), "{error}");
}
