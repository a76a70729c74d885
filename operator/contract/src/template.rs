//! Where a row's picture lies: a path with column names in braces, such as
//! `images/image_{imageid}_product_{productid}.jpg`. The plan refuses what the trainer could not
//! read, so both parse it here.

/// A parsed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Each column with the text before it.
    columns: Vec<(String, String)>,
    /// What follows the last column.
    tail: String,
}

impl Template {
    /// Parses a path; the error is a sentence without its subject.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.is_empty() && text.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err("must be relative to the source's folder, without a '/' at its beginning or end, and without '//', '.' and '..'".to_owned());
        }
        if text.contains('\\') || text.contains(char::is_control) {
            return Err("must not contain backslashes or control characters".to_owned());
        }
        let (mut columns, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once('{') {
            let Some((column, after)) = after.split_once('}') else {
                return Err("has a '{' without its '}'".to_owned());
            };
            if column.is_empty() || column.contains('{') {
                return Err("has braces that hold no column name".to_owned());
            }
            columns.push((before.to_owned(), column.to_owned()));
            rest = after;
        }
        if columns.iter().any(|(before, _)| before.contains('}')) || rest.contains('}') {
            return Err("has a '}' without its '{'".to_owned());
        }
        if columns.is_empty() {
            return Err("names no column: write the column that tells pictures apart in braces, as in images/{imageid}.jpg".to_owned());
        }
        Ok(Self { columns, tail: rest.to_owned() })
    }

    /// The columns in their order; one may be there twice.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(_, column)| column.as_str())
    }

    /// The path with these values in the places of the columns.
    pub fn fill<'a>(&self, values: impl IntoIterator<Item = &'a str>) -> String {
        let mut path = String::new();
        for ((before, _), value) in self.columns.iter().zip(values) {
            path.push_str(before);
            path.push_str(value);
        }
        path + &self.tail
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_replaced_in_their_order() {
        let template = Template::parse("images/image_{imageid}_product_{productid}.jpg").unwrap();
        assert_eq!(template.columns().collect::<Vec<_>>(), ["imageid", "productid"]);
        assert_eq!(template.fill(["12", "34"]), "images/image_12_product_34.jpg");
        let twice = Template::parse("{a}/{b b}{a}").unwrap();
        assert_eq!(twice.fill(["1", "2", "3"]), "1/23");
    }

    #[test]
    fn what_is_no_path_with_columns_is_refused() {
        for (text, part) in [
            ("", "names no column"),
            ("images/x.jpg", "names no column"),
            ("/images/{a}.jpg", "relative"),
            ("a/../{a}.jpg", "relative"),
            ("./{a}.jpg", "relative"),
            ("a//{a}.jpg", "relative"),
            ("{a}/", "relative"),
            ("a\\{a}.jpg", "backslashes"),
            ("a\n{a}.jpg", "control"),
            ("{a", "'{' without"),
            ("{}.jpg", "no column name"),
            ("{a{b}}", "no column name"),
            ("a}{b}", "'}' without"),
            ("{b}}", "'}' without"),
        ] {
            let error = Template::parse(text).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        }
        assert!(Template::parse("a..b/{a}..jpg").is_ok());
    }
}
