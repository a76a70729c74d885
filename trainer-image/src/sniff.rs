//! What a file is that is no CSV in UTF-8, from its first bytes: the message then says what it is
//! and how to turn it into one, instead of "no column designation".

/// First bytes, what they are the beginning of, and what to do.
const MAGIC: [(&[u8], &str, &str); 12] = [
    (b"\xFF\xFE", "UTF-16", ICONV),
    (b"\xFE\xFF", "UTF-16", ICONV),
    (b"\x1F\x8B", "compressed with gzip", "unpack it with gunzip"),
    (b"PK\x03\x04", "a zip archive or an Excel workbook", "unpack it, or save the sheet as CSV"),
    (b"BZh", "compressed with bzip2", "unpack it with bunzip2"),
    (b"\xFD7zXZ\0", "compressed with xz", "unpack it with unxz"),
    (b"\x28\xB5\x2F\xFD", "compressed with zstd", "unpack it with unzstd"),
    (b"PAR1", "Parquet", "write it as CSV, for example with pandas' to_csv"),
    (b"ARROW1", "an Arrow file", "write it as CSV, for example with pandas' to_csv"),
    (b"%PDF", "a PDF", "export the table as CSV"),
    (b"SQLite format 3", "a SQLite database", "export the table as CSV"),
    (b"version https://git-lfs", "a pointer of Git LFS and not the file", "fetch the file with git lfs pull"),
];
const ICONV: &str = "convert it, for example with iconv -f utf-16 -t utf-8";
/// How pages begin.
const PAGES: [&[u8]; 4] = [b"<!doctype", b"<html", b"<head", b"<?xml"];
/// Bytes looked at.
const LOOK: usize = 512;
/// Separators that are not the comma.
const SEPARATORS: [char; 3] = [';', '\t', '|'];

/// What the file is and what to do, if it is certainly no CSV in UTF-8.
pub fn other_format(start: &[u8]) -> Option<String> {
    let start = &start[..start.len().min(LOOK)];
    if let Some((_, what, fix)) = MAGIC.iter().find(|(magic, _, _)| start.starts_with(magic)) {
        return Some(format!("is {what}; {fix}"));
    }
    let text = start.trim_ascii_start();
    if PAGES.iter().any(|page| text.get(..page.len()).is_some_and(|s| s.eq_ignore_ascii_case(page))) {
        return Some(
            "is a web page and not a table: the download ended at a login or an error page; log in and download it again"
                .to_owned(),
        );
    }
    if text.starts_with(b"{\"") || text.starts_with(b"[{") {
        return Some("is JSON; write it as CSV, for example with pandas' to_csv".to_owned());
    }
    utf16_without_mark(start)
}

/// Latin text in UTF-16 has a zero in every other byte.
fn utf16_without_mark(start: &[u8]) -> Option<String> {
    let zeros = |odd: usize| start.iter().skip(odd).step_by(2).filter(|&&byte| byte == 0).count();
    let pairs = start.len() / 2;
    let (even, odd) = (zeros(0), zeros(1));
    if pairs < 4 || even.max(odd) * 4 < pairs * 3 || even.min(odd) * 8 > pairs {
        return None;
    }
    let order = if odd > even { "le" } else { "be" };
    Some(format!(
        "is UTF-16 without a byte order mark; convert it, for example with iconv -f utf-16{order} -t utf-8"
    ))
}

/// For a table whose columns were not found: the separator that its header seems to have.
pub fn separator_hint(header: &[String]) -> String {
    let line = header.concat();
    let count = |separator: &char| line.matches(*separator).count();
    match SEPARATORS.iter().max_by_key(|separator| count(separator)) {
        Some(separator) if count(separator) >= header.len() => format!(
            "; its cells look separated by {separator:?} instead of commas: write it with pandas' to_csv(sep=\",\")"
        ),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_not_taken_for_something_else() {
        for text in
            ["", "a,b\n", ",designation\n0,<html>\n", "PKW,Preis\n", "versions\n", "\0", "été,b", "{a},b"]
        {
            assert_eq!(other_format(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(other_format(b"a\0b,c\n1,2\n"), None);
    }

    #[test]
    fn utf16_is_known_without_its_mark() {
        let units: Vec<u16> = "id,text\n1,été à Paris\n".encode_utf16().collect();
        let le: Vec<u8> = units.iter().flat_map(|u| u.to_le_bytes()).collect();
        let be: Vec<u8> = units.iter().flat_map(|u| u.to_be_bytes()).collect();
        assert!(other_format(&le).unwrap().contains("utf-16le"));
        assert!(other_format(&be).unwrap().contains("utf-16be"));
    }

    #[test]
    fn the_separator_is_guessed_from_the_header_alone() {
        let header = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        assert!(separator_hint(&header("a;b;c")).contains("';'"));
        assert!(separator_hint(&header("a\tb")).contains("'\\t'"));
        assert!(separator_hint(&header("a;b, c;d")).contains("';'"));
        assert_eq!(separator_hint(&header("a,b;c,d")), "");
        assert_eq!(separator_hint(&header("a")), "");
    }
}
