//! Whether bytes are a picture that can be used.
//!
//! The format is read from the bytes, never from a name. JPEG (also progressive, grey and CMYK,
//! which is converted), PNG, WebP and GIF are pictures; what moves is not one picture and is refused.
//! Every picture is decoded once, within the bounds below, so that what a snapshot holds opens later.

use std::io::{BufRead, Cursor, Seek};
use std::panic::catch_unwind;

use image::codecs::gif::GifDecoder;
use image::codecs::jpeg::JpegDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::{AnimationDecoder, DynamicImage, ImageDecoder, ImageError, ImageFormat, Limits};

/// Largest file in bytes.
pub const MAX_BYTES: u64 = 20 << 20;
/// Most pixels.
pub const MAX_PIXELS: u64 = 24_000_000;
/// Most pixels of a side.
const MAX_SIDE: u32 = 16_384;
/// Most memory that a decoder may ask for: 24 million pixels of four bytes, and as much again.
const MAX_ALLOC: u64 = 2 * 4 * MAX_PIXELS;

/// What a usable picture is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture {
    /// Pixels from left to right.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
}

/// Why bytes are not a usable picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PictureError {
    /// There is no byte.
    #[error("it is empty")]
    Empty,
    /// The file is too large.
    #[error("it is larger than {} MiB", MAX_BYTES >> 20)]
    TooManyBytes,
    /// Another format, or none.
    #[error("it is not a JPEG, PNG, WebP or GIF picture")]
    NotAPicture,
    /// Several frames.
    #[error("it is animated; save one frame of it")]
    Animated,
    /// Too many pixels.
    #[error("it has {width} x {height} pixels; at most {MAX_PIXELS}, and {MAX_SIDE} a side")]
    TooManyPixels {
        /// Pixels from left to right.
        width: u32,
        /// Pixels from top to bottom.
        height: u32,
    },
    /// The bytes end within the picture.
    #[error("it is cut off")]
    CutOff,
    /// The bytes do not follow their format.
    #[error("it is broken: {0}")]
    Broken(String),
}

/// Decodes the bytes and forgets the pixels.
pub fn check(bytes: &[u8]) -> Result<Picture, PictureError> {
    if bytes.is_empty() {
        return Err(PictureError::Empty);
    }
    if bytes.len() as u64 > MAX_BYTES {
        return Err(PictureError::TooManyBytes);
    }
    // Decoders are large and read hostile bytes: a fault in one of them is a broken picture.
    let decoded = catch_unwind(|| decode(bytes));
    let image = decoded.unwrap_or_else(|_| Err(PictureError::Broken("the decoder gave up".to_owned())))?;
    Ok(Picture { width: image.width(), height: image.height() })
}

fn decode(bytes: &[u8]) -> Result<DynamicImage, PictureError> {
    let input = Cursor::new(bytes);
    match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) if jpeg_is_cut_off(bytes) => Err(PictureError::CutOff),
        Ok(ImageFormat::Jpeg) => pixels(JpegDecoder::new(input).map_err(broken)?),
        Ok(ImageFormat::Png) => {
            // The size stands at the very beginning; the decoder's own limits name no numbers.
            if let Some((width, height)) = png_size(bytes) {
                fits(width, height)?;
            }
            let decoder = PngDecoder::with_limits(input, limits()).map_err(broken)?;
            if decoder.is_apng().map_err(broken)? { Err(PictureError::Animated) } else { pixels(decoder) }
        }
        Ok(ImageFormat::WebP) => {
            let decoder = WebPDecoder::new(input).map_err(broken)?;
            if decoder.has_animation() { Err(PictureError::Animated) } else { pixels(decoder) }
        }
        Ok(ImageFormat::Gif) => gif(input),
        _ => Err(PictureError::NotAPicture),
    }
}

/// The only frame of a GIF.
fn gif(input: impl BufRead + Seek) -> Result<DynamicImage, PictureError> {
    let mut decoder = GifDecoder::new(input).map_err(broken)?;
    bounded(&mut decoder)?;
    let mut frames = decoder.into_frames();
    let first = frames.next().ok_or(PictureError::CutOff)?.map_err(broken)?;
    match frames.next() {
        None => Ok(DynamicImage::ImageRgba8(first.into_buffer())),
        Some(Ok(_)) => Err(PictureError::Animated),
        Some(Err(error)) => Err(broken(error)),
    }
}

fn pixels(mut decoder: impl ImageDecoder) -> Result<DynamicImage, PictureError> {
    bounded(&mut decoder)?;
    DynamicImage::from_decoder(decoder).map_err(broken)
}

/// Looks at the announced size before anything of that size is asked for.
fn bounded(decoder: &mut impl ImageDecoder) -> Result<(), PictureError> {
    let (width, height) = decoder.dimensions();
    fits(width, height)?;
    decoder.set_limits(limits()).map_err(broken)
}

fn fits(width: u32, height: u32) -> Result<(), PictureError> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels > MAX_PIXELS || width.max(height) > MAX_SIDE {
        return Err(PictureError::TooManyPixels { width, height });
    }
    if pixels == 0 {
        return Err(PictureError::Broken("it has no pixel".to_owned()));
    }
    Ok(())
}

fn png_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let number = |at: usize| bytes.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
    Some((number(16)?, number(20)?))
}

fn limits() -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_ALLOC);
    limits
}

#[allow(clippy::needless_pass_by_value)] // for map_err
fn broken(error: ImageError) -> PictureError {
    if let ImageError::IoError(error) = &error
        && error.kind() == std::io::ErrorKind::UnexpectedEof
    {
        return PictureError::CutOff;
    }
    // Decoders quote what they read: one line of it is enough.
    let text: String = error.to_string().chars().filter(|c| !c.is_control()).take(120).collect();
    PictureError::Broken(text)
}

/// Whether a JPEG ends before its end marker: its decoder fills what is missing with grey and says
/// nothing. Markers within an embedded thumbnail do not count, so the segments are walked.
fn jpeg_is_cut_off(bytes: &[u8]) -> bool {
    const END: u8 = 0xD9;
    const SCAN: u8 = 0xDA;
    let mut at = 2;
    loop {
        // The next marker: 0xFF and neither a stuffed zero, a fill byte nor a restart.
        let Some(rest) = bytes.get(at..) else { return true };
        let next = rest
            .windows(2)
            .position(|pair| pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0xFF | 0x01 | 0xD0..=0xD7));
        let Some(next) = next else { return true };
        let marker = rest[next + 1];
        at += next + 2;
        if marker == END {
            return false;
        }
        let Some(length) = bytes.get(at..at + 2) else { return true };
        at += usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
        if marker == SCAN && at >= bytes.len() {
            return true;
        }
    }
}

#[cfg(test)]
mod tests {
    use image::codecs::gif::GifEncoder;
    use image::{Frame, RgbImage, RgbaImage};

    use super::*;

    fn encoded(format: ImageFormat) -> Vec<u8> {
        let picture = RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8 * 6, y as u8 * 8, 90]));
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::ImageRgb8(picture).write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn moving(frames: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = GifEncoder::new(&mut bytes);
        for _ in 0..frames {
            encoder.encode_frame(Frame::new(RgbaImage::new(40, 30))).unwrap();
        }
        drop(encoder);
        bytes
    }

    const FORMATS: [ImageFormat; 4] =
        [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Gif];

    #[test]
    fn the_four_formats_are_pictures_whatever_follows_them() {
        for format in FORMATS {
            let mut bytes = encoded(format);
            assert_eq!(check(&bytes), Ok(Picture { width: 40, height: 30 }), "{format:?}");
            bytes.extend([0; 7]);
            assert_eq!(check(&bytes), Ok(Picture { width: 40, height: 30 }), "{format:?}");
        }
    }

    #[test]
    fn every_cut_is_noticed_and_none_ends_the_program() {
        for format in FORMATS {
            let bytes = encoded(format);
            // The last few bytes hold no pixels: a PNG's end chunk, a GIF's trailer, padding.
            for end in 0..bytes.len() - 14 {
                assert!(check(&bytes[..end]).is_err(), "{format:?} cut at {end} of {}", bytes.len());
            }
        }
        let jpeg = encoded(ImageFormat::Jpeg);
        assert_eq!(check(&jpeg[..jpeg.len() - 2]), Err(PictureError::CutOff));
    }

    #[test]
    fn an_end_marker_in_a_thumbnail_is_not_the_end() {
        let whole = encoded(ImageFormat::Jpeg);
        let thumbnail = [0xFF, 0xE1, 0, 6, 0xFF, 0xD8, 0xFF, 0xD9];
        let with = [&whole[..2], &thumbnail, &whole[2..]].concat();
        assert!(check(&with).is_ok());
        assert_eq!(check(&with[..with.len() - 40]), Err(PictureError::CutOff));
    }

    #[test]
    fn what_moves_is_refused() {
        assert!(check(&moving(1)).is_ok());
        assert_eq!(check(&moving(2)), Err(PictureError::Animated));
    }

    #[test]
    fn announced_sizes_are_refused_before_they_are_allocated() {
        let mut gif = moving(1);
        gif[6..10].fill(0xFF);
        assert_eq!(check(&gif), Err(PictureError::TooManyPixels { width: 65535, height: 65535 }));
        assert_eq!(check(&vec![0xFF; MAX_BYTES as usize + 1]), Err(PictureError::TooManyBytes));
    }

    #[test]
    fn other_bytes_are_not_pictures() {
        assert_eq!(check(b""), Err(PictureError::Empty));
        for bytes in [&b"x"[..], b"<!doctype html>", b"BM\0\0\0\0", b"%PDF-1.4", b"II*\0"] {
            assert_eq!(check(bytes), Err(PictureError::NotAPicture), "{bytes:?}");
        }
        assert!(matches!(check(b"\xff\xd8\xff\xe0"), Err(PictureError::CutOff)));
        assert!(check(b"\x89PNG\r\n\x1a\nxxxx").is_err());
    }
}
