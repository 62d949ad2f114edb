//! Photos as the input of networks that classify images.

use std::io::Cursor;

use zune_jpeg::{
    JpegDecoder,
    zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions},
};

/// Mean and standard deviation of ImageNet's red, green and blue, of 1.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

pub(crate) struct Photo {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Red, green and blue by pixel.
    samples: Vec<u8>,
}

impl Photo {
    /// The photo `name` of the repository.
    pub(crate) fn load(name: &str) -> Self {
        let path = format!("{}/../examples/assets/photos/{name}.jpg", env!("CARGO_MANIFEST_DIR"));
        Self::decode(&std::fs::read(path).unwrap())
    }

    /// Decodes a JPEG file, or a PNG file in 8-bit red, green and blue.
    pub(crate) fn decode(file: &[u8]) -> Self {
        let (width, height, samples) = if file.starts_with(b"\x89PNG") { png(file) } else { jpeg(file) };
        assert_eq!(samples.len(), width * height * 3, "three samples a pixel");
        Self { width, height, samples }
    }

    /// What EfficientNet-Lite's authors show a network that sees `to` pixels: the photo with its shorter side resized to
    /// `to + 32`, and of that the centre.
    pub(crate) fn centre(&self, to: usize) -> Vec<u8> {
        let side = self.width.min(self.height) * to / (to + 32);
        self.crop((self.width - side) / 2, (self.height - side) / 2, side, to)
    }

    /// The square of `side` pixels at (`left`, `top`), resized bilinearly to `to` pixels and normalised, as the bytes of
    /// `f32` `[to, to, 3]`.
    pub(crate) fn crop(&self, left: usize, top: usize, side: usize, to: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(to * to * 12);
        let place = |i: usize, offset: usize| {
            let at = ((i as f32 + 0.5) * side as f32 / to as f32 - 0.5).clamp(0.0, (side - 1) as f32);
            (offset + at as usize, at.fract())
        };
        for (y, down) in (0..to).map(|y| place(y, top)) {
            for (x, right) in (0..to).map(|x| place(x, left)) {
                for channel in 0..3 {
                    let at = |x: usize, y: usize| {
                        let (x, y) = (x.min(self.width - 1), y.min(self.height - 1));
                        f32::from(self.samples[(y * self.width + x) * 3 + channel])
                    };
                    let row = |y| at(x, y) * (1.0 - right) + at(x + 1, y) * right;
                    let value = row(y) * (1.0 - down) + row(y + 1) * down;
                    out.extend(((value / 255.0 - MEAN[channel]) / DEVIATION[channel]).to_le_bytes());
                }
            }
        }
        out
    }
}

fn jpeg(file: &[u8]) -> (usize, usize, Vec<u8>) {
    let options = DecoderOptions::default().jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(file), options);
    let samples = decoder.decode().unwrap();
    let (width, height) = decoder.dimensions().unwrap();
    (width, height, samples)
}

fn png(file: &[u8]) -> (usize, usize, Vec<u8>) {
    let mut reader = png::Decoder::new(Cursor::new(file)).read_info().unwrap();
    let mut samples = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut samples).unwrap();
    (frame.width as usize, frame.height as usize, samples)
}
