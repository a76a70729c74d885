//! Pictures made by code.

use std::io::Cursor;

use image::codecs::gif::GifEncoder;
use image::{DynamicImage, Frame, ImageFormat, RgbImage, RgbaImage};

/// A small picture that is no two times the same.
pub fn picture(format: ImageFormat, seed: u8) -> Vec<u8> {
    let at = |x: u32, y: u32| image::Rgb([x as u8 * 7, y as u8 * 11, seed.wrapping_mul(37)]);
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::ImageRgb8(RgbImage::from_fn(24, 16, at)).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

pub fn jpeg(seed: u8) -> Vec<u8> {
    picture(ImageFormat::Jpeg, seed)
}

pub fn gif(frames: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    encoder.encode_frames((0..frames).map(|_| Frame::new(RgbaImage::new(24, 16)))).unwrap();
    drop(encoder);
    bytes
}

fn segment(marker: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 2).unwrap().to_be_bytes();
    [&[0xFF, marker], &length[..], body].concat()
}

/// 8 x 8 equal pixels.
pub fn flat_jpeg(components: u8, progressive: bool) -> Vec<u8> {
    flat_jpeg_of(8, 8, components, progressive)
}

/// Equal pixels: every coefficient is zero and takes one bit, so that few bytes are many pixels.
pub fn flat_jpeg_of(width: u16, height: u16, components: u8, progressive: bool) -> Vec<u8> {
    let one_code: Vec<u8> = std::iter::once(1).chain([0; 15]).chain([0]).collect();
    let each = |suffix: &[u8]| (1..=components).flat_map(|id| [&[id], suffix].concat()).collect::<Vec<u8>>();
    let mut out = vec![0xFF, 0xD8];
    if components == 4 {
        // No transformation: the four are cyan, magenta, yellow and black.
        out.extend(segment(0xEE, b"Adobe\0\x64\0\0\0\0\0"));
    }
    out.extend(segment(0xDB, &[&[0][..], &[1; 64]].concat()));
    let (high, wide) = (height.to_be_bytes(), width.to_be_bytes());
    let frame = [&[8][..], &high, &wide, &[components], &each(&[0x11, 0])].concat();
    out.extend(segment(if progressive { 0xC2 } else { 0xC0 }, &frame));
    out.extend(segment(0xC4, &[&[0x00], one_code.as_slice()].concat()));
    out.extend(segment(0xC4, &[&[0x10], one_code.as_slice()].concat()));
    let scans: &[[u8; 3]] = if progressive { &[[0, 0, 0], [1, 63, 0]] } else { &[[0, 63, 0]] };
    for band in scans {
        out.extend(segment(0xDA, &[&[components][..], &each(&[0x00]), band].concat()));
        let blocks = usize::from(width.div_ceil(8)) * usize::from(height.div_ceil(8));
        let bits = blocks * usize::from(components) * if progressive { 1 } else { 2 };
        out.resize(out.len() + bits.div_ceil(8), 0);
    }
    out.extend([0xFF, 0xD9]);
    out
}

/// A PNG that announces this size; its check sums are right.
pub fn png_of(width: u32, height: u32) -> Vec<u8> {
    let mut out = picture(ImageFormat::Png, 0);
    out[16..20].copy_from_slice(&width.to_be_bytes());
    out[20..24].copy_from_slice(&height.to_be_bytes());
    let crc = crc32(&out[12..29]);
    out[29..33].copy_from_slice(&crc.to_be_bytes());
    out
}

pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, &byte| {
        (0..8).fold(
            crc ^ u32::from(byte),
            |crc, _| {
                if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 }
            },
        )
    })
}
