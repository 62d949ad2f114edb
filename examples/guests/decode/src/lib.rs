//! Turns a JPEG or PNG file into the input tensor of an ImageNet classifier: shorter side to 256,
//! centre crop of 224, normalised.

mod image;
mod resize;

use image::Image;

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "decode" });
}

/// Side in pixels of the square that the classifier sees.
const CROP: u32 = 224;
/// Length in pixels of the image's shorter side before the crop.
const SHORTER_SIDE: u32 = 256;
/// Mean and standard deviation of ImageNet's red, green and blue, of 1.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

struct Decode;

impl bindings::Guest for Decode {
    fn decode(input: Vec<u8>) -> Result<Vec<u8>, String> {
        let image = Image::decode(&input).map_err(|reason| format!("image: {reason}"))?;
        let mut pixels = resize::shorter_side_and_crop(&image, SHORTER_SIDE, CROP);
        for pixel in pixels.as_chunks_mut::<3>().0 {
            for (channel, value) in pixel.iter_mut().enumerate() {
                *value = (*value / 255.0 - MEAN[channel]) / DEVIATION[channel];
            }
        }
        Ok(tensor::encode_f32(&[1, CROP, CROP, 3], &pixels))
    }
}

bindings::export!(Decode with_types_in bindings);
