//! JPEG and PNG files to 8-bit samples.

use std::io::Cursor;

use png::{ColorType, DecodingError, Transformations};
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};

/// Largest image decoded; a larger one is refused from its header.
const MAX_MEGAPIXELS: u64 = 16;

/// A decoded image: rows from the top, pixels from the left, the channels of a pixel side by side.
pub(crate) struct Image {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Samples of one pixel: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
    pub(crate) channels: usize,
    pub(crate) samples: Vec<u8>,
}

impl Image {
    /// Decodes a file by its first bytes; the error says what is wrong with it.
    pub(crate) fn decode(file: &[u8]) -> Result<Self, String> {
        if file.starts_with(b"\xff\xd8\xff") {
            decode_jpeg(file)
        } else if file.starts_with(b"\x89PNG\r\n\x1a\n") {
            decode_png(file)
        } else {
            Err("neither JPEG nor PNG".into())
        }
    }
}

fn check_size(width: usize, height: usize) -> Result<(), String> {
    if width as u64 * height as u64 > MAX_MEGAPIXELS * 1_000_000 {
        return Err(format!("{width}x{height} is over the limit of {MAX_MEGAPIXELS} megapixels"));
    }
    Ok(())
}

fn decode_jpeg(file: &[u8]) -> Result<Image, String> {
    // Without strict mode what is broken or missing decodes to grey.
    let options =
        DecoderOptions::default().set_strict_mode(true).set_max_width(u16::MAX.into()).set_max_height(u16::MAX.into());
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(file), options);
    let unreadable = |error| match error {
        DecodeErrors::IoErrors(_) | DecodeErrors::ExhaustedData => "JPEG: truncated".into(),
        error => format!("JPEG: {error}"),
    };
    decoder.decode_headers().map_err(unreadable)?;
    let (width, height) = decoder.dimensions().ok_or("JPEG: no dimensions in the header")?;
    check_size(width, height)?;
    let channels = if decoder.input_colorspace() == Some(ColorSpace::Luma) {
        decoder.set_options(options.jpeg_set_out_colorspace(ColorSpace::Luma));
        1
    } else {
        3
    };
    if !reaches_end_of_image(file) {
        return Err("JPEG: truncated".into());
    }
    let samples = decoder.decode().map_err(unreadable)?;
    if samples.len() != width * height * channels {
        return Err("JPEG: colour space is not supported".into());
    }
    Ok(Image { width, height, channels, samples })
}

/// Whether the markers of a JPEG file lead to its end of image.
///
/// The decoder does not notice when the file ends inside the last row of blocks.
fn reaches_end_of_image(file: &[u8]) -> bool {
    let mut rest = file;
    while let Some(at) = rest.iter().position(|&byte| byte == 0xff) {
        let Some(&marker) = rest.get(at + 1) else {
            return false;
        };
        rest = match marker {
            0xd9 => return true,
            // A fill byte, which may start the next marker.
            0xff => &rest[at + 1..],
            // No segment follows: 0xff as data, temporary, restart, start of image.
            0x00 | 0x01 | 0xd0..=0xd8 => &rest[at + 2..],
            _ => {
                let Some(&length) = rest[at + 2..].first_chunk() else {
                    return false;
                };
                let end = at + 2 + usize::from(u16::from_be_bytes(length));
                let Some(rest) = rest.get(end..) else {
                    return false;
                };
                rest
            }
        };
    }
    false
}

fn decode_png(file: &[u8]) -> Result<Image, String> {
    let mut decoder = png::Decoder::new(Cursor::new(file));
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let unreadable = |error| match error {
        DecodingError::IoError(_) => "PNG: truncated".into(),
        error => format!("PNG: {error}"),
    };
    let header = decoder.read_header_info().map_err(unreadable)?;
    let (width, height) = (header.width as usize, header.height as usize);
    check_size(width, height)?;
    let mut reader = decoder.read_info().map_err(unreadable)?;
    let size = reader.output_buffer_size().ok_or("PNG: too large for this machine")?;
    let mut samples = vec![0; size];
    reader.next_frame(&mut samples).map_err(unreadable)?;
    let channels = match reader.output_color_type().0 {
        ColorType::Grayscale => 1,
        ColorType::GrayscaleAlpha => 2,
        ColorType::Rgb => 3,
        ColorType::Rgba => 4,
        ColorType::Indexed => return Err("PNG: palette was not expanded".into()),
    };
    Ok(Image { width, height, channels, samples })
}

#[cfg(test)]
mod tests {
    use super::Image;

    const JPEG: &[u8] = include_bytes!("../../../assets/photos/camera.jpg");

    fn refused(file: &[u8]) -> String {
        Image::decode(file).err().expect("must be refused")
    }

    fn png(color: png::ColorType, depth: png::BitDepth, samples: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, 2, 1);
        encoder.set_color(color);
        encoder.set_depth(depth);
        encoder.set_palette(vec![1, 2, 3, 4, 5, 6]);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(samples).unwrap();
        writer.finish().unwrap();
        file
    }

    #[test]
    fn refuses_what_is_no_image() {
        assert_eq!(refused(b""), "neither JPEG nor PNG");
        assert_eq!(refused(b"GIF89a"), "neither JPEG nor PNG");
    }

    #[test]
    fn refuses_a_jpeg_cut_anywhere() {
        for end in (0..JPEG.len()).step_by(997).chain(JPEG.len() - 100..JPEG.len()) {
            let expected = if end < 3 { "neither JPEG nor PNG" } else { "JPEG: truncated" };
            assert_eq!(refused(&JPEG[..end]), expected);
        }
    }

    #[test]
    fn refuses_a_png_cut_anywhere() {
        let file = png(png::ColorType::Rgb, png::BitDepth::Eight, &[0, 1, 2, 3, 4, 5]);
        let end_chunk = 12;
        for end in 0..file.len() - end_chunk {
            let expected = if end < 8 { "neither JPEG nor PNG" } else { "PNG: truncated" };
            assert_eq!(refused(&file[..end]), expected);
        }
    }

    #[test]
    fn refuses_dimensions_over_the_limit_from_the_header() {
        let mut jpeg = JPEG.to_vec();
        let frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
        jpeg[frame + 5..][..4].copy_from_slice(&[0x27, 0x10, 0x27, 0x10]);
        assert_eq!(refused(&jpeg), "10000x10000 is over the limit of 16 megapixels");

        let mut file = Vec::new();
        drop(png::Encoder::new(&mut file, 8001, 2000).write_header());
        assert_eq!(refused(&file), "8001x2000 is over the limit of 16 megapixels");
    }

    #[test]
    fn every_kind_of_png_becomes_8_bit_samples() {
        use png::{BitDepth, ColorType};
        let cases: [(Vec<u8>, usize, &[u8]); 7] = [
            (png(ColorType::Grayscale, BitDepth::Eight, &[7, 9]), 1, &[7, 9]),
            (png(ColorType::Grayscale, BitDepth::One, &[0b0100_0000]), 1, &[0, 255]),
            (png(ColorType::GrayscaleAlpha, BitDepth::Eight, &[7, 8, 9, 10]), 2, &[7, 8, 9, 10]),
            (png(ColorType::Indexed, BitDepth::Eight, &[1, 0]), 3, &[4, 5, 6, 1, 2, 3]),
            (png(ColorType::Rgb, BitDepth::Eight, &[1, 2, 3, 4, 5, 6]), 3, &[1, 2, 3, 4, 5, 6]),
            (png(ColorType::Rgba, BitDepth::Eight, &[1, 2, 3, 4, 5, 6, 7, 8]), 4, &[1, 2, 3, 4, 5, 6, 7, 8]),
            (png(ColorType::Rgb, BitDepth::Sixteen, &[1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0]), 3, &[1, 2, 3, 4, 5, 6]),
        ];
        for (file, channels, samples) in cases {
            let image = Image::decode(&file).unwrap();
            assert_eq!((image.width, image.height, image.channels), (2, 1, channels));
            assert_eq!(image.samples, samples);
        }
    }

    #[test]
    fn a_grey_jpeg_keeps_one_channel() {
        let image = Image::decode(JPEG).unwrap();
        assert_eq!((image.width, image.height, image.channels), (512, 512, 1));
    }
}
