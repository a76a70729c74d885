//! The Parquet file of a snapshot: `id`, the text columns under their own names, `label`, `group`,
//! `split`, and `image` where the data set has pictures. Equal rows give equal bytes: no time and no
//! version is written.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, ConvertedType, LogicalType, Repetition, Type as PhysicalType};
use parquet::column::reader::get_typed_column_reader;
use parquet::column::writer::ColumnWriterImpl;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnPath, Type};

use crate::Error;
use crate::split::{GroupKey, Part};

/// Column with the row's identity.
pub const ID: &str = "id";
/// Column with the class.
pub const LABEL: &str = "label";
/// Column with the group key.
pub const GROUP: &str = "group";
/// Column with the part.
pub const SPLIT: &str = "split";
/// Column with the bytes of the picture, in a data set with pictures.
pub const IMAGE: &str = "image";
/// Column names that texts cannot have; with pictures, [`IMAGE`] is another.
pub const RESERVED: [&str; 4] = [ID, LABEL, GROUP, SPLIT];

/// Who made the file; fixed, because the digest follows it.
const CREATED_BY: &str = "vitrine snapshot 1";
/// Key of the file's metadata that says how rows were grouped.
const GROUPED_BY: &str = "vitrine.groupBy";
/// Rows per row group at most.
const GROUP_ROWS: usize = 16_384;
/// Bytes of text and pictures per row group, about.
const GROUP_BYTES: usize = 32 << 20;

/// One row of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Identity.
    pub id: String,
    /// Text columns; `None` is missing.
    pub texts: Vec<Option<String>>,
    /// Class, if known.
    pub label: Option<String>,
    /// Group.
    pub group: GroupKey,
    /// Part.
    pub part: Part,
    /// Picture as it was found; a data set without pictures has none.
    pub image: Option<Vec<u8>>,
}

/// Writes a snapshot row by row.
pub struct Writer {
    file: SerializedFileWriter<File>,
    rows: Vec<Row>,
    bytes: usize,
    pictures: bool,
}

impl Writer {
    /// Creates the file.
    pub fn create(path: &Path, texts: &[String], grouped_by: &str, pictures: bool) -> Result<Self, Error> {
        let reserved = |name: &str| RESERVED.contains(&name) || pictures && name == IMAGE;
        if let Some(name) = texts.iter().find(|name| reserved(name)) {
            return Err(Error::InvalidSpec(format!(
                "text column {name:?} has the name of a snapshot column ({}, {IMAGE}); rename it in the source",
                RESERVED.join(", ")
            )));
        }
        let mut fields = vec![utf8(ID, Repetition::REQUIRED)?];
        for name in texts {
            fields.push(utf8(name, Repetition::OPTIONAL)?);
        }
        fields.push(utf8(LABEL, Repetition::OPTIONAL)?);
        fields.push(utf8(GROUP, Repetition::REQUIRED)?);
        fields.push(utf8(SPLIT, Repetition::REQUIRED)?);
        if pictures {
            let image = Type::primitive_type_builder(IMAGE, PhysicalType::BYTE_ARRAY);
            fields.push(Arc::new(image.with_repetition(Repetition::OPTIONAL).build()?));
        }
        let schema = Type::group_type_builder("schema").with_fields(fields).build()?;
        let metadata = KeyValue::new(GROUPED_BY.to_owned(), grouped_by.to_owned());
        let mut properties = WriterProperties::builder()
            .set_created_by(CREATED_BY.to_owned())
            .set_compression(Compression::SNAPPY)
            .set_key_value_metadata(Some(vec![metadata]));
        if pictures {
            // Pictures are compressed already; none is the least of them or worth a dictionary.
            let image = || ColumnPath::from(IMAGE);
            properties = properties
                .set_column_compression(image(), Compression::UNCOMPRESSED)
                .set_column_dictionary_enabled(image(), false)
                .set_column_statistics_enabled(image(), EnabledStatistics::None);
        }
        let file = File::create(path).map_err(Error::io("creating", path))?;
        let file = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties.build()))?;
        Ok(Self { file, rows: Vec::new(), bytes: 0, pictures })
    }

    /// Adds a row.
    pub fn push(&mut self, row: Row) -> Result<(), Error> {
        self.bytes += row.texts.iter().flatten().map(String::len).sum::<usize>();
        self.bytes += row.image.as_ref().map_or(0, Vec::len);
        self.rows.push(row);
        if self.rows.len() >= GROUP_ROWS || self.bytes >= GROUP_BYTES { self.flush() } else { Ok(()) }
    }

    /// Completes the file.
    pub fn finish(mut self) -> Result<(), Error> {
        self.flush()?;
        self.file.close()?;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let mut rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let Some(first) = rows.first() else { return Ok(()) };
        let texts = first.texts.len();
        let mut group = self.file.next_row_group()?;
        let mut number = 0;
        let image = if self.pictures { texts + RESERVED.len() } else { usize::MAX };
        while let Some(mut column) = group.next_column()? {
            if number == image {
                write_pictures(column.typed::<ByteArrayType>(), &mut rows)?;
                column.close()?;
                continue;
            }
            let (values, levels) = column_of(rows.iter().map(|row| cell(row, number, texts)));
            let optional = (1..=texts + 1).contains(&number);
            let levels = optional.then_some(levels.as_slice());
            column.typed::<ByteArrayType>().write_batch(&values, levels, None)?;
            column.close()?;
            number += 1;
        }
        group.close()?;
        Ok(())
    }
}

/// Moves the pictures into the file one by one: a page then ends with the picture that fills it,
/// where a batch would make one page of the whole row group.
fn write_pictures(column: &mut ColumnWriterImpl<'_, ByteArrayType>, rows: &mut [Row]) -> Result<(), Error> {
    for row in rows {
        let (value, level) = column_of(std::iter::once(row.image.take()));
        column.write_batch(&value, Some(&level), None)?;
    }
    Ok(())
}

/// A row's cell in the file's column of that number.
fn cell(row: &Row, number: usize, texts: usize) -> Option<Vec<u8>> {
    let text = |text: &Option<String>| text.clone().map(String::into_bytes);
    match number {
        0 => Some(row.id.clone().into_bytes()),
        n if n <= texts => text(&row.texts[n - 1]),
        n if n == texts + 1 => text(&row.label),
        n if n == texts + 2 => Some(row.group.to_hex().into_bytes()),
        _ => Some(row.part.as_str().as_bytes().to_vec()),
    }
}

/// Values that are there, and a 1 or 0 for each row.
fn column_of(cells: impl Iterator<Item = Option<Vec<u8>>>) -> (Vec<ByteArray>, Vec<i16>) {
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    for cell in cells {
        levels.push(i16::from(cell.is_some()));
        values.extend(cell.map(ByteArray::from));
    }
    (values, levels)
}

fn utf8(name: &str, repetition: Repetition) -> Result<Arc<Type>, Error> {
    let column = Type::primitive_type_builder(name, PhysicalType::BYTE_ARRAY)
        .with_repetition(repetition)
        .with_logical_type(Some(LogicalType::String))
        .with_converted_type(ConvertedType::UTF8)
        .build()?;
    Ok(Arc::new(column))
}

/// Reads a snapshot, one row group at a time.
pub struct Reader {
    file: SerializedFileReader<File>,
    /// Names of the text columns.
    pub texts: Vec<String>,
    /// How rows were grouped: `text` or a column.
    pub grouped_by: String,
    /// Rows in the file.
    pub rows: usize,
    /// Whether the file has a column of pictures.
    pub pictures: bool,
}

impl Reader {
    /// Opens a snapshot and checks its columns.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let name = path.display();
        let corrupt = |what: String| Error::DataCorrupt(format!("snapshot {name}: {what}"));
        let file = File::open(path).map_err(Error::io("opening", path))?;
        let file = SerializedFileReader::new(file).map_err(|e| corrupt(e.to_string()))?;
        let meta = file.metadata().file_metadata();
        let columns = meta.schema_descr().columns();
        let mut names: Vec<String> = columns.iter().map(|c| c.name().to_owned()).collect();
        // Behind the others, where no text column can be.
        let pictures = names.ends_with(&[SPLIT.to_owned(), IMAGE.to_owned()]);
        names.truncate(names.len() - usize::from(pictures));
        let texts = names.len().saturating_sub(RESERVED.len());
        let ends = names.last_chunk::<3>().map(|last| last.each_ref().map(String::as_str));
        let utf8 = columns.iter().all(|c| c.physical_type() == PhysicalType::BYTE_ARRAY);
        if texts == 0 || names[0] != ID || ends != Some([LABEL, GROUP, SPLIT]) || !utf8 {
            return Err(corrupt(format!("columns {names:?} are not id, texts, label, group, split")));
        }
        let pairs = meta.key_value_metadata().map(Vec::as_slice).unwrap_or_default();
        let grouped_by = pairs.iter().find(|pair| pair.key == GROUPED_BY).and_then(|pair| pair.value.clone());
        let grouped_by = grouped_by.ok_or_else(|| corrupt(format!("no {GROUPED_BY} in its metadata")))?;
        let rows = usize::try_from(meta.num_rows()).map_err(|e| corrupt(e.to_string()))?;
        Ok(Self { texts: names[1..=texts].to_vec(), grouped_by, rows, file, pictures })
    }

    /// Calls `each` with every row in order, without its picture: that column is not read.
    pub fn for_each(&self, each: impl FnMut(Row) -> Result<(), Error>) -> Result<(), Error> {
        self.read(false, each)
    }

    /// Calls `each` with every row in order and its picture.
    pub fn for_each_with_picture(&self, each: impl FnMut(Row) -> Result<(), Error>) -> Result<(), Error> {
        self.read(self.pictures, each)
    }

    fn read(&self, pictures: bool, mut each: impl FnMut(Row) -> Result<(), Error>) -> Result<(), Error> {
        let image = self.texts.len() + RESERVED.len();
        for number in 0..self.file.num_row_groups() {
            let group = self.file.get_row_group(number)?;
            let images = if pictures { read_bytes(group.as_ref(), image)? } else { Vec::new() };
            let mut images = images.into_iter();
            let columns = (0..self.texts.len() + RESERVED.len())
                .map(|column| read_column(group.as_ref(), column))
                .collect::<Result<Vec<_>, _>>()?;
            let mut columns: Vec<_> = columns.into_iter().map(Vec::into_iter).collect();
            let rows = group.metadata().num_rows();
            for _ in 0..rows {
                let mut cells = columns.iter_mut().map(|column| column.next().flatten());
                let id = cells.next().flatten().unwrap_or_default();
                let texts = cells.by_ref().take(self.texts.len()).collect();
                let label = cells.next().flatten();
                let group = cells.next().flatten().and_then(|text| GroupKey::from_hex(&text));
                let part = cells.next().flatten().and_then(|name| Part::from_name(&name));
                let (Some(group), Some(part)) = (group, part) else {
                    return Err(Error::DataCorrupt(format!("snapshot row {id:?} has no group or split")));
                };
                let image = images.next().flatten().map(|bytes| bytes.data().to_vec());
                each(Row { id, texts, label, group, part, image })?;
            }
        }
        Ok(())
    }
}

fn read_column(group: &dyn RowGroupReader, column: usize) -> Result<Vec<Option<String>>, Error> {
    let text = |value: ByteArray| {
        String::from_utf8(value.data().to_vec()).map_err(|e| Error::DataCorrupt(format!("snapshot: {e}")))
    };
    read_bytes(group, column)?.into_iter().map(|value| value.map(text).transpose()).collect()
}

fn read_bytes(group: &dyn RowGroupReader, column: usize) -> Result<Vec<Option<ByteArray>>, Error> {
    let rows = usize::try_from(group.metadata().num_rows()).unwrap_or_default();
    let optional = group.metadata().schema_descr().column(column).max_def_level() > 0;
    let mut reader = get_typed_column_reader::<ByteArrayType>(group.get_column_reader(column)?);
    let (mut values, mut levels) = (Vec::with_capacity(rows), Vec::new());
    let mut read = 0;
    while read < rows {
        let (records, _, _) =
            reader.read_records(rows - read, optional.then_some(&mut levels), None, &mut values)?;
        if records == 0 {
            return Err(Error::DataCorrupt(format!(
                "snapshot column {column} ends after {read} of {rows} rows"
            )));
        }
        read += records;
    }
    let mut values = values.into_iter();
    let there = |row: usize| !optional || levels.get(row).is_some_and(|&level| level > 0);
    Ok((0..rows).map(|row| if there(row) { values.next() } else { None }).collect())
}
